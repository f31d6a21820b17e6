"""mosquitto_pub, mosquitto_sub and mosquitto_rr with MQTT 3.1, 3.1.1 and 5.0, over TCP, TLS and Unix sockets."""

import queue

from mosquitto_clients import FORMAT, VERSIONS, Sub, common, parse_message, publish, publish_lines, publish_text

from harness import (
    CONNACK,
    DEADLINE,
    DISCONNECT,
    PUBLISH,
    Child,
    Failure,
    Suite,
    Tap,
    expect,
    expect_sequence,
    expect_that,
    let_time_pass,
    main,
    over,
    publish_parts,
)

QUEUED = 100


def every_qos(version):
    def case(address):
        for granted in (0, 1, 2):
            topic = f"qos/{granted}"
            with Sub(address, version, topic, qos=granted) as sub:
                for published in (0, 1, 2):
                    payload = f"published at {published}, ünïcödé ✓"
                    publish(address, version, topic, payload, qos=published)
                    sub.expect_message(topic, payload, min(published, granted))
                sub.end()

    return case


def sizes_of_payloads(version):
    def case(address):
        with Sub(address, version, "payload/#", qos=1) as sub:
            publish(address, version, "payload/empty", None, qos=1)
            sub.expect_message("payload/empty", "", 1)
            long = "0123456789" * 50_000
            publish_text(address, version, "payload/long", long, qos=1)
            sub.expect_message("payload/long", long, 1)

    return case


def retained(version):
    def case(address):
        topic = "retained/state"
        publish(address, version, topic, "first", "-r", qos=1)
        with Sub(address, version, "retained/+") as live:
            live.expect_message(topic, "first", 1, retain=True)
            publish(address, version, topic, "second", "-r", qos=2)
            live.expect_message(topic, "second", 2, retain=False)
            with Sub(address, version, topic) as late:
                late.expect_message(topic, "second", 2, retain=True)
            publish(address, version, topic, None, "-r", qos=1)
            live.expect_message(topic, "", 1, retain=False)
        with Sub(address, version, topic) as after:
            publish(address, version, topic, "nothing was retained", qos=1)
            after.expect_message(topic, "nothing was retained", 1)

    return case


def retain_as_published(address):
    with Sub(address, "v5", "as/published", "--retain-as-published") as sub:
        publish(address, "v5", "as/published", "kept", "-r", qos=1)
        sub.expect_message("as/published", "kept", 1, retain=True)
        publish(address, "v5", "as/published", None, "-r", qos=1)
        sub.expect_message("as/published", "", 1, retain=True)


def will_options(topic, qos=0, retain=False):
    options = ["--will-topic", topic, "--will-payload", "gone", "--will-qos", str(qos)]
    return [*options, "--will-retain"] if retain else options


def will(version):
    def case(address):
        with Sub(address, version, "will/#") as witness:
            for qos, retain in ((0, False), (1, True), (2, False)):
                options = will_options(f"will/{qos}", qos, retain)
                with Sub(address, version, "unrelated", *options, client_id="victim") as victim:
                    victim.kill()
                witness.expect_message(f"will/{qos}", "gone", qos)
            publish(address, version, "will/end", "only once each", qos=1)
            witness.expect_message("will/end", "only once each", 1)
        with Sub(address, version, "will/1") as late:
            late.expect_message("will/1", "gone", 1, retain=True)
        publish(address, version, "will/1", None, "-r", qos=1)

    return case


def no_will_after_disconnect(version):
    """With -C, mosquitto_sub disconnects normally after so many messages."""

    def case(address):
        with Sub(address, version, "farewell/#") as witness, Tap(address) as tap:
            with Sub(tap.address, version, "last/word", *will_options("farewell/will"), "-C", "1") as leaver:
                publish(address, version, "last/word", "go", qos=1)
                expect(leaver.wait(), 0, "exit code of mosquitto_sub")
                tap.wait_closed_by_broker()
            publish(address, version, "farewell/end", "no will before this", qos=1)
            witness.expect_message("farewell/end", "no will before this", 1)

    return case


def disconnect_with_will(address):
    """On SIGTERM, mosquitto_sub sends DISCONNECT 0x04, which asks for the will."""
    with Sub(address, "v5", "farewell/#") as witness, Tap(address) as tap:
        with Sub(tap.address, "v5", "unrelated", *will_options("farewell/will", qos=1)) as leaver:
            leaver.end()
        expect(tap.packet("client", DISCONNECT)[1][0], 0x04, "reason code that mosquitto_sub sends")
        witness.expect_message("farewell/will", "gone", 1)


def persistent(version):
    """The options of a session that outlives its connection."""
    return ["-c", "-x", "3600"] if version == "v5" else ["-c"]


def expect_session(tap, version, present):
    """MQTT 3.1 has no session present bit: it is reserved there, and zero."""
    expect(tap.session_present(), present and version != "v3.1", "session present")


def queued_offline(version, qos):
    def case(address):
        topic, client = f"queued/{qos}", f"sleeper-{qos}"
        lines = [f"{n} of {QUEUED}" for n in range(QUEUED)]
        with Tap(address) as tap, Sub(tap.address, version, topic, *persistent(version), client_id=client) as sub:
            expect_session(tap, version, False)
            sub.end()
            tap.wait_closed_by_broker()
        publish_lines(address, version, topic, lines, qos=qos)
        with Tap(address) as tap, Sub(tap.address, version, topic, *persistent(version), client_id=client) as sub:
            expect_session(tap, version, True)
            got = [sub.message() for _ in range(QUEUED)]
            expect_sequence([m.payload.decode() for m in got], lines, "queued messages")
            expect({(m.topic, m.qos, m.retain) for m in got}, {(topic, qos, False)}, "topic, QoS and retain flag")
            publish(address, version, topic, "end", qos=qos)
            sub.expect_message(topic, "end", qos)
            sub.end()
        with Tap(address) as tap, Sub(tap.address, version, topic, client_id=client):
            expect_session(tap, version, False)

    return case


def takeover(version):
    def case(address):
        topic, options = "takeover", persistent(version)
        with Tap(address) as first_tap, Sub(first_tap.address, version, topic, *options, client_id="twin") as first:
            expect_session(first_tap, version, False)
            second_tap = Tap(address)
            with second_tap, Sub(second_tap.address, version, topic, *options, client_id="twin") as second:
                first_tap.wait_closed_by_broker()
                expect_goodbye(first_tap, version)
                expect_session(second_tap, version, True)
                first.kill()
                publish(address, version, topic, "to the second", qos=2)
                second.expect_message(topic, "to the second", 2)
                expect_that(first.inbox.empty(), "the first client received a message after it was taken over")
                second.end()
        with Tap(address) as tap, Sub(tap.address, version, topic, client_id="twin"):
            expect_session(tap, version, False)

    return case


def expect_goodbye(tap, version):
    """MQTT 5 says DISCONNECT 0x8E, Session taken over; the older versions have no word for it."""
    codes = [body[0] for _, body in tap.packets("broker", DISCONNECT)]
    expect(codes, [0x8E] if version == "v5" else [], "DISCONNECT of the broker to the first client")


def shared(version):
    def case(address):
        lines = [str(n) for n in range(QUEUED)]
        for qos in (0, 1, 2):
            topic, inbox = f"shared/{qos}", queue.Queue()
            filters = ["$share/group/" + topic, topic + "/end"]
            with Sub(address, version, filters, inbox=inbox) as one, Sub(address, version, filters, inbox=inbox) as two:
                publish_lines(address, version, topic, lines, qos=qos)
                got = {one: [], two: []}
                for _ in lines:
                    member, message = next_of(inbox, got)
                    expect((message.topic, message.qos, message.retain), (topic, qos, False), "message")
                    got[member].append(message.payload.decode())
                publish(address, version, topic + "/end", "end", qos=1)
                ends = [next_of(inbox, got) for _ in range(2)]
                expect([m.payload for _, m in ends], [b"end", b"end"], "what follows the shared messages")
                expect({member for member, _ in ends}, {one, two}, "receivers of the unshared message")
            expect_fair_shares(list(got.values()), lines)

    return case


def next_of(inbox, got):
    try:
        return inbox.get(timeout=DEADLINE)
    except queue.Empty:
        raise Failure(f"no message within {DEADLINE} s; received so far: {list(got.values())!r}") from None


def expect_fair_shares(shares, lines):
    expect_sequence(sorted(shares[0] + shares[1], key=int), lines, "union of both members")
    for share in shares:
        expect_that(len(share) > 0, "one member received nothing")
        expect(share, sorted(share, key=int), "order within a member")


def request_response(version):
    def case(address):
        with Sub(address, version, "request", qos=1) as responder:
            properties = ["-D", "publish", "correlation-data", "ticket-7"] if version == "v5" else []
            command = common("mosquitto_rr", address, version, None) + ["-t", "request", "-e", "response", "-q", "1"]
            with Child([*command, "-m", "question", "-F", FORMAT, *properties]) as requester:
                question = responder.expect_message("request", "question", 1)
                answer_to(address, version, question)
                line = requester.lines.next()
                expect_that(line is not None and line.startswith("MESSAGE"), f"mosquitto_rr printed {line!r}")
                answer = parse_message(line)
                expect((answer.topic, answer.payload, answer.qos), ("response", b"answer", 1), "response")
                if version == "v5":
                    expect(answer.correlation_data, "ticket-7", "correlation data of the response")
                expect(requester.wait(), 0, "exit code of mosquitto_rr")

    return case


def answer_to(address, version, question):
    if version != "v5":
        publish(address, version, "response", "answer", qos=1)
        return
    expect(question.response_topic, "response", "response topic of the request")
    expect(question.correlation_data, "ticket-7", "correlation data of the request")
    data = ["-D", "publish", "correlation-data", question.correlation_data]
    publish(address, version, question.response_topic, "answer", *data, qos=1)


PROPERTIES = [
    *("-D", "publish", "user-property", "z", "first"),
    *("-D", "publish", "content-type", "text/plain"),
    *("-D", "publish", "user-property", "a", "second"),
    *("-D", "publish", "response-topic", "reply/here"),
    *("-D", "publish", "correlation-data", "c-1"),
    *("-D", "publish", "payload-format-indicator", "1"),
    *("-D", "publish", "user-property", "z", "third"),
]


def expect_properties(message):
    expect(message.user, "z:first a:second z:third", "user properties in order")
    expect(message.content_type, "text/plain", "content type")
    expect(message.response_topic, "reply/here", "response topic")
    expect(message.correlation_data, "c-1", "correlation data")
    expect(message.format, "1", "payload format indicator")


def properties(address):
    for qos in (0, 1, 2):
        topic = f"properties/{qos}"
        with Sub(address, "v5", topic) as live:
            publish(address, "v5", topic, "payload", "-r", *PROPERTIES, qos=qos)
            expect_properties(live.expect_message(topic, "payload", qos))
        with Sub(address, "v5", topic) as late:
            expect_properties(late.expect_message(topic, "payload", qos, retain=True))
        publish(address, "v5", topic, None, "-r", qos=1)


def properties_of_queued_messages(address):
    with Tap(address) as tap, Sub(tap.address, "v5", "properties/queued", *persistent("v5"), client_id="reader") as sub:
        sub.end()
        tap.wait_closed_by_broker()
    publish(address, "v5", "properties/queued", "payload", *PROPERTIES, qos=1)
    with Sub(address, "v5", "properties/queued", client_id="reader", *persistent("v5")) as sub:
        expect_properties(sub.expect_message("properties/queued", "payload", 1))


def properties_of_a_will(address):
    options = will_options("properties/will", qos=1) + [word.replace("publish", "will") for word in PROPERTIES]
    with Sub(address, "v5", "properties/will") as witness:
        with Sub(address, "v5", "unrelated", *options) as victim:
            victim.kill()
        expect_properties(witness.expect_message("properties/will", "gone", 1))


def properties_are_dropped_for_older_versions(address):
    with Sub(address, "v3.1.1", "properties/old") as sub:
        publish(address, "v5", "properties/old", "payload", *PROPERTIES, qos=2)
        got = sub.expect_message("properties/old", "payload", 2)
        expect((got.user, got.content_type), ("", ""), "properties in MQTT 3.1.1")


def expiry(seconds):
    return ["-D", "publish", "message-expiry-interval", str(seconds)]


def message_expiry(address):
    with Tap(address) as tap, Sub(tap.address, "v5", "expiry/#", *persistent("v5"), client_id="late") as sub:
        publish(address, "v5", "expiry/live", "at once", *expiry(100), qos=1)
        got = sub.expect_message("expiry/live", "at once", 1)
        expect_that(got.expiry in (99, 100), f"expiry interval of a message sent on at once: {got.expiry}")
        sub.end()
        tap.wait_closed_by_broker()
    publish(address, "v5", "expiry/retained/short", "expires", "-r", *expiry(1), qos=1)
    publish(address, "v5", "expiry/retained/long", "stays", "-r", *expiry(100), qos=1)
    publish(address, "v5", "expiry/queued", "expires", *expiry(1), qos=1)
    publish(address, "v5", "expiry/queued", "stays", *expiry(100), qos=1)
    publish(address, "v5", "expiry/queued", "has no expiry", qos=1)
    let_time_pass(2.5)
    with Sub(address, "v5", "unrelated", *persistent("v5"), client_id="late") as sub:
        expect_counted_down(sub.expect_message("expiry/retained/long", "stays", 1))
        expect_counted_down(sub.expect_message("expiry/queued", "stays", 1))
        expect(sub.expect_message("expiry/queued", "has no expiry", 1).expiry, None, "expiry interval that was not set")
    with Sub(address, "v5", "expiry/retained/#") as sub:
        expect_counted_down(sub.expect_message("expiry/retained/long", "stays", 1, retain=True))
        publish(address, "v5", "expiry/retained/end", "end", qos=1)
        sub.expect_message("expiry/retained/end", "end", 1)
    publish(address, "v5", "expiry/retained/long", None, "-r", qos=1)


def expect_counted_down(message):
    expect_that(message.expiry is not None and 80 <= message.expiry <= 98, f"expiry interval left: {message.expiry}")


def topic_alias_from_the_client(address):
    with Sub(address, "v5", "alias/in", qos=1) as sub, Tap(address) as tap:
        lines = ["names the topic", "names the alias only", "and again"]
        publish_lines(tap.address, "v5", "alias/in", lines, "-D", "publish", "topic-alias", "3", qos=1)
        for line in lines:
            sub.expect_message("alias/in", line, 1)
        topics = [publish_parts(packet, True)[0] for packet in tap.packets("client", PUBLISH)]
        expect(topics, ["alias/in", "", ""], "topics on the wire, else this case tests nothing")


def connack_announces_limits(address):
    with Tap(address) as tap:
        publish(tap.address, "v5", "limits", "hello", qos=1)
        _, body = tap.packet("broker", CONNACK)
        expect_that(body[2] == len(body) - 3, f"property length of the CONNACK: {body!r}")
        expect_that(b"\x12" in body[3:], "no Assigned Client Identifier for an empty client identifier")


def suites():
    for transport in ("tcp", "tls", "unix"):
        for version in VERSIONS:
            suite = Suite(over(f"mosquitto {version}", transport), transports=[transport])
            add_any_version(suite, version)
            if version == "v5":
                add_version_5(suite)
            yield suite


def add_any_version(suite, version):
    suite.add("every QoS published to every QoS subscribed", every_qos(version))
    suite.add("empty and long payloads", sizes_of_payloads(version))
    suite.add("retained message set, replaced and cleared", retained(version))
    suite.add("will of a killed client", will(version))
    suite.add("no will after DISCONNECT", no_will_after_disconnect(version))
    for qos in (1, 2):
        suite.add(f"{QUEUED} messages queued offline at QoS {qos} and resumed in order", queued_offline(version, qos))
    suite.add("takeover", takeover(version))
    suite.add("shared subscription of two members", shared(version))
    if version != "v3.1":
        suite.add("request and response with mosquitto_rr", request_response(version))


def add_version_5(suite):
    suite.add("will after DISCONNECT 0x04", disconnect_with_will)
    suite.add("retain as published", retain_as_published)
    suite.add("properties, live and retained", properties)
    suite.add("properties of queued messages", properties_of_queued_messages)
    suite.add("properties of a will", properties_of_a_will)
    suite.add("properties are dropped for MQTT 3.1.1", properties_are_dropped_for_older_versions)
    suite.add("message expiry counted down and expired", message_expiry)
    suite.add("topic alias from the client", topic_alias_from_the_client)
    suite.add("assigned client identifier", connack_announces_limits)


if __name__ == "__main__":
    main(list(suites()))
