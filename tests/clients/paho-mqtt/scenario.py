"""paho-mqtt with MQTT 3.1, 3.1.1 and 5.0, over every transport."""

import contextlib
import queue

from paho.mqtt.client import SubscribeOptions
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode
from paho_client import VERSIONS, Client, Closed, take

from harness import (
    TRANSPORTS,
    WITH_TLS,
    Failure,
    Suite,
    certificate,
    expect,
    expect_sequence,
    expect_that,
    let_time_pass,
    main,
    over,
)

QUEUED = 100


def every_qos(version):
    def case(address):
        with Client(address, version) as sub, Client(address, version) as pub:
            for granted in (0, 1, 2):
                topic = f"qos/{granted}"
                sub.subscribe(topic, granted)
                for published in (0, 1, 2):
                    payload = f"published at {published}".encode() + bytes(range(256))
                    pub.publish(topic, payload, published)
                    sub.expect_message(topic, payload, min(published, granted))
            sub.disconnect()
            pub.disconnect()

    return case


def both_ways(version):
    """One connection that publishes to itself at each QoS, many messages interleaved."""

    def case(address):
        with Client(address, version) as client:
            for qos in (0, 1, 2):
                client.subscribe(f"echo/{qos}", qos)
            infos = [client.start_publish(f"echo/{n % 3}", str(n), n % 3) for n in range(300)]
            got = [client.message() for _ in infos]
            for info in infos:
                client.finish(info)
            for qos in (0, 1, 2):
                echoed = [int(m.payload) for m in got if (m.topic, m.qos) == (f"echo/{qos}", qos)]
                expect_sequence(echoed, list(range(qos, 300, 3)), f"order at QoS {qos}")

    return case


def sizes_of_payloads(version):
    def case(address):
        with Client(address, version) as client:
            client.subscribe("payload", 1)
            for payload in (b"", b"\0", bytes(range(256)) * 2000):
                client.publish("payload", payload, 1)
                client.expect_message("payload", payload, 1)

    return case


def unsubscribe(version):
    def case(address):
        with Client(address, version) as client:
            client.subscribe("unsubscribe/+", 1)
            client.subscribe("end", 1)
            client.publish("unsubscribe/a", "before", 1)
            client.expect_message("unsubscribe/a", "before", 1)
            client.unsubscribe("unsubscribe/+")
            client.publish("unsubscribe/a", "after", 1)
            client.publish("end", "nothing before this", 1)
            client.expect_message("end", "nothing before this", 1)

    return case


def retained(version):
    def case(address):
        topic = "retained/state"
        with Client(address, version) as pub, Client(address, version) as live:
            pub.publish(topic, "first", 1, retain=True)
            live.subscribe("retained/#")
            live.expect_message(topic, "first", 1, retain=True)
            pub.publish(topic, "second", 2, retain=True)
            live.expect_message(topic, "second", 2, retain=False)
            with Client(address, version) as late:
                late.subscribe(topic, 1)
                late.expect_message(topic, "second", 1, retain=True)
            pub.publish(topic, "", 1, retain=True)
            live.expect_message(topic, "", 1, retain=False)
            with Client(address, version) as after:
                after.subscribe(topic)
                pub.publish(topic, "nothing was retained", 1)
                after.expect_message(topic, "nothing was retained", 1)

    return case


def will(version):
    def case(address):
        with Client(address, version) as witness:
            witness.subscribe("will/#")
            for qos, retain in ((0, False), (1, True), (2, False)):
                last = {"topic": f"will/{qos}", "payload": "gone", "qos": qos, "retain": retain}
                with Client(address, version, "victim", will=last) as victim:
                    victim.kill()
                    witness.expect_message(f"will/{qos}", "gone", qos)
            with Client(address, version, "victim", will=last) as leaver:
                leaver.disconnect()
            witness.publish("will/end", "none after DISCONNECT", 1)
            witness.expect_message("will/end", "none after DISCONNECT", 1)
            with Client(address, version) as late:
                late.subscribe("will/1")
                late.expect_message("will/1", "gone", 1, retain=True)
            witness.publish("will/1", "", 1, retain=True)

    return case


def queued_offline(version, qos):
    def case(address):
        topic, client = f"queued/{qos}", f"sleeper-{qos}"
        lines = [f"{n} of {QUEUED}" for n in range(QUEUED)]
        with Client(address, version, client, persistent=True, present=False) as sub:
            sub.subscribe(topic)
            sub.disconnect()
        with Client(address, version) as pub:
            for line in lines:
                pub.publish(topic, line, qos)
            with Client(address, version, client, persistent=True, present=True) as sub:
                got = [sub.message() for _ in lines]
                expect_sequence([m.payload.decode() for m in got], lines, "queued messages")
                expect({(m.topic, m.qos, m.retain) for m in got}, {(topic, qos, False)}, "topic, QoS and retain flag")
                pub.publish(topic, "end", qos)
                sub.expect_message(topic, "end", qos)
                sub.disconnect()
        with Client(address, version, client, present=False):
            pass

    return case


def takeover(version):
    def case(address):
        with Client(address, version, "twin", persistent=True) as first, Client(address, version) as pub:
            first.subscribe("takeover")
            with Client(address, version, "twin", persistent=True, present=True) as second:
                expect(first.wait_lost(), 0x8E if version == "v5" else None, "DISCONNECT of the broker")
                pub.publish("takeover", "to the second", 2)
                second.expect_message("takeover", "to the second", 2)
                expect_that(first.inbox.empty(), "the first client received a message after it was taken over")
                with Client(address, version, "twin", present=False) as third:
                    expect(second.wait_lost(), 0x8E if version == "v5" else None, "DISCONNECT of the broker")
                    third.subscribe("takeover/end")
                    pub.publish("takeover", "to nobody, the clean session has no such subscription", 1)
                    pub.publish("takeover/end", "end", 1)
                    third.expect_message("takeover/end", "end", 1)

    return case


def shared(version):
    def case(address):
        for qos in (0, 1, 2):
            topic, inbox = f"shared/{qos}", queue.Queue()
            with Client(address, version, inbox=inbox) as one, Client(address, version, inbox=inbox) as two:
                for member in (one, two):
                    member.subscribe(f"$share/group/{topic}")
                    member.subscribe(topic + "/end")
                with Client(address, version) as pub:
                    shared_by(one, two, inbox, pub, topic, qos)

    return case


def shared_by(one, two, inbox, pub, topic, qos):
    infos = [pub.start_publish(topic, str(n), qos) for n in range(QUEUED)]
    got = {one: [], two: []}
    for _ in infos:
        member, message = take(inbox, "shared message")
        expect((message.topic, message.qos, message.retain), (topic, qos, False), "message")
        got[member].append(int(message.payload))
    pub.publish(topic + "/end", "end", 1)
    ends = [take(inbox, "unshared message") for _ in range(2)]
    expect([m.payload for _, m in ends], [b"end", b"end"], "what follows the shared messages")
    expect({member for member, _ in ends}, {one, two}, "receivers of the unshared message")
    expect_sequence(sorted(got[one] + got[two]), list(range(QUEUED)), "union of both members")
    for share in got.values():
        expect_that(len(share) > 0, "one member received nothing")
        expect(share, sorted(share), "order within a member")


PROPERTIES = {
    "UserProperty": [("z", "first"), ("a", "second"), ("z", "third"), ("", "")],
    "ContentType": "text/plain; ünïcödé",
    "ResponseTopic": "reply/here",
    "CorrelationData": bytes(range(256)),
    "PayloadFormatIndicator": 1,
}


def expect_properties(message):
    for name, value in PROPERTIES.items():
        expect(getattr(message.properties, name, None), value, name)


def properties(address):
    with Client(address, "v5") as live, Client(address, "v5") as pub:
        live.subscribe("properties/#")
        for qos in (0, 1, 2):
            topic = f"properties/{qos}"
            pub.publish(topic, "payload", qos, retain=True, **PROPERTIES)
            expect_properties(live.expect_message(topic, "payload", qos))
            with Client(address, "v5") as late:
                late.subscribe(topic)
                expect_properties(late.expect_message(topic, "payload", qos, retain=True))
            pub.publish(topic, "", qos, retain=True)
            live.expect_message(topic, "", qos)


def properties_of_queued_messages(address):
    with Client(address, "v5", "reader", persistent=True) as sub:
        sub.subscribe("properties/queued")
        sub.disconnect()
    with Client(address, "v5") as pub:
        pub.publish("properties/queued", "payload", 1, **PROPERTIES)
    with Client(address, "v5", "reader", persistent=True, present=True) as sub:
        expect_properties(sub.expect_message("properties/queued", "payload", 1))


def properties_of_a_will(address):
    with Client(address, "v5") as witness:
        witness.subscribe("properties/will")
        last = {"topic": "properties/will", "payload": "gone", "qos": 1, **PROPERTIES}
        with Client(address, "v5", will=last) as victim:
            victim.kill()
            expect_properties(witness.expect_message("properties/will", "gone", 1))


def will_delay(address):
    """A delayed will is not published when its client is back in time, and is when the session ends."""
    last = {"topic": "delayed/will", "payload": "gone", "qos": 1, "WillDelayInterval": 3600}
    with Client(address, "v5") as witness:
        witness.subscribe("delayed/#")
        with Client(address, "v5", "delayed", persistent=True, will=last) as victim:
            victim.kill()
        with Client(address, "v5", "delayed", persistent=True, present=True, will=last) as victim:
            witness.publish("delayed/end", "no will before this", 1)
            witness.expect_message("delayed/end", "no will before this", 1)
            victim.kill()
            with Client(address, "v5", "delayed", present=False):
                witness.expect_message("delayed/will", "gone", 1)


def disconnect_with_will(address):
    with Client(address, "v5") as witness:
        witness.subscribe("farewell")
        with Client(address, "v5", will={"topic": "farewell", "payload": "gone", "qos": 2}) as leaver:
            leaver.disconnect(ReasonCode(PacketTypes.DISCONNECT, "Disconnect with will message"))
            witness.expect_message("farewell", "gone", 2)


def message_expiry(address):
    with Client(address, "v5", "late", persistent=True) as sub, Client(address, "v5") as pub:
        sub.subscribe("expiry/#")
        pub.publish("expiry/live", "at once", 1, MessageExpiryInterval=100)
        left = sub.expect_message("expiry/live", "at once", 1).properties.MessageExpiryInterval
        expect_that(left in (99, 100), f"expiry interval of a message sent on at once: {left}")
        sub.disconnect()
        pub.publish("expiry/retained/short", "expires", 1, retain=True, MessageExpiryInterval=1)
        pub.publish("expiry/retained/long", "stays", 1, retain=True, MessageExpiryInterval=100)
        pub.publish("expiry/queued", "expires", 2, MessageExpiryInterval=1)
        pub.publish("expiry/queued", "stays", 2, MessageExpiryInterval=100)
        pub.publish("expiry/queued", "has no expiry", 2)
        let_time_pass(2.5)
        expired_while_queued(address)
        expired_while_retained(address, pub)


def expired_while_queued(address):
    with Client(address, "v5", "late", persistent=True, present=True) as sub:
        expect_counted_down(sub.expect_message("expiry/retained/long", "stays", 1))
        expect_counted_down(sub.expect_message("expiry/queued", "stays", 2))
        last = sub.expect_message("expiry/queued", "has no expiry", 2)
        expect(hasattr(last.properties, "MessageExpiryInterval"), False, "an expiry interval that was not set")


def expired_while_retained(address, pub):
    with Client(address, "v5") as sub:
        sub.subscribe("expiry/retained/#")
        expect_counted_down(sub.expect_message("expiry/retained/long", "stays", 1, retain=True))
        pub.publish("expiry/retained/end", "end", 1)
        sub.expect_message("expiry/retained/end", "end", 1)
        pub.publish("expiry/retained/long", "", 1, retain=True)


def expect_counted_down(message):
    left = getattr(message.properties, "MessageExpiryInterval", None)
    expect_that(left is not None and 80 <= left <= 98, f"expiry interval left: {left}")


def topic_alias_from_the_client(address):
    with Client(address, "v5") as sub, Client(address, "v5") as pub:
        expect_that(getattr(pub.connack, "TopicAliasMaximum", 0) >= 2, "the broker takes no topic aliases")
        sub.subscribe("alias/#")
        for topic, payload in (("alias/one", "names"), ("", "alias only"), ("alias/two", "renames"), ("", "the new")):
            pub.publish(topic, payload, 1, TopicAlias=1)
        for topic, payload in (("one", "names"), ("one", "alias only"), ("two", "renames"), ("two", "the new")):
            sub.expect_message(f"alias/{topic}", payload, 1)


def topic_alias_from_the_broker(address):
    topics = ["alias/out/one", "alias/out/two", "alias/out/three"]
    with Client(address, "v5", TopicAliasMaximum=2) as sub, Client(address, "v5") as pub:
        sub.subscribe("alias/out/+")
        published = [(topic, f"{n}") for n in range(4) for topic in topics]
        for topic, payload in published:
            pub.publish(topic, payload, 1)
        aliases, got = {}, [sub.message() for _ in published]
        resolved = [(resolve(message, aliases), message.payload.decode()) for message in got]
        expect(resolved, published, "messages after their aliases are resolved")
        expect_that(any(m.topic == "" for m in got), "the broker used no topic alias though the client allows two")


def resolve(message, aliases):
    """Paho leaves aliases to the program: the topic that the message stands for."""
    alias = getattr(message.properties, "TopicAlias", None)
    expect_that(alias in (None, 1, 2), f"topic alias {alias} is above the maximum of 2")
    if message.topic and alias:
        aliases[alias] = message.topic
    return message.topic or aliases[alias]


def subscription_options(address):
    with Client(address, "v5") as client, Client(address, "v5") as other:
        other.publish("options/kept", "retained", 1, retain=True)
        options = SubscribeOptions(1, noLocal=True, retainAsPublished=True, retainHandling=1)
        client.subscribe("options/#", 1, options=options)
        client.expect_message("options/kept", "retained", 1, retain=True)
        client.subscribe("options/#", 1, options=options)
        client.publish("options/own", "not to myself", 1)
        other.publish("options/kept", "", 1, retain=True)
        client.expect_message("options/kept", "", 1, retain=True)


def subscription_identifiers(address):
    with Client(address, "v5") as client:
        client.subscribe("identifiers/#", 1, SubscriptionIdentifier=7)
        client.subscribe("identifiers/+", 2, SubscriptionIdentifier=268_435_455)
        client.subscribe("identifiers/one", 0)
        client.publish("identifiers/one", "one copy at the highest QoS", 2)
        got = client.expect_message("identifiers/one", "one copy at the highest QoS", 2)
        expect(sorted(got.properties.SubscriptionIdentifier), [7, 268_435_455], "subscription identifiers")
        client.publish("identifiers/end", "end", 0)
        client.expect_message("identifiers/end", "end", 0)


def across_transports(version):
    """A message that comes by one transport leaves by all of them."""

    def case(*addresses):
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(Client(address, version)) for address in addresses]
            for client in clients:
                client.subscribe("across/#")
            for n, publisher in enumerate(clients):
                for qos in (0, 1, 2):
                    publisher.publish(f"across/{n}", f"at {qos}", qos)
                    for client in clients:
                        client.expect_message(f"across/{n}", f"at {qos}", qos)

    return case


def session_moves(version):
    """A session is not bound to the transport that began it."""

    def case(*addresses):
        with Client(addresses[0], version, "mover", persistent=True) as client:
            client.subscribe("moved")
            client.disconnect()
        with Client(addresses[0], version) as pub:
            for address in addresses:
                pub.publish("moved", address.transport, 1)
                with Client(address, version, "mover", persistent=True, present=True) as client:
                    client.expect_message("moved", address.transport, 1)
                    client.disconnect()

    return case


def client_certificates(version):
    def case(*addresses):
        for address in addresses:
            with Client(address, version, identity="client") as client:
                client.subscribe("certificates")
                for identity in (None, "revoked", "expired", "self-signed", "other"):
                    expect_refused(address, version, identity)
                client.publish("certificates", "still served", 1)
                client.expect_message("certificates", "still served", 1)

    return case


def expect_refused(address, version, identity):
    """With TLS 1.3 a client learns only after its handshake that the broker does not take its certificate."""
    try:
        with Client(address, version, identity=identity):
            pass
    except (OSError, Closed):
        return
    raise Failure(f"the broker took a client with the certificate {identity}")


def suites():
    for transport in TRANSPORTS:
        for version in VERSIONS:
            suite = Suite(over(f"paho-mqtt {version}", transport), transports=[transport])
            add_any_version(suite, version)
            if version == "v5":
                add_version_5(suite)
            yield suite
    for version in VERSIONS:
        suite = Suite(f"paho-mqtt {version} across transports", transports=list(TRANSPORTS))
        suite.add("a message by one transport to all", across_transports(version))
        suite.add("a session from one transport to the next", session_moves(version))
        yield suite
    authority = ["--tls-ca", certificate("ca.pem"), "--tls-crl", certificate("crl.pem")]
    suite = Suite("paho-mqtt with certificates", *authority, transports=WITH_TLS)
    suite.add("a client certificate, and four that are refused", client_certificates("v5"))
    yield suite


def add_any_version(suite, version):
    suite.add("every QoS published to every QoS subscribed", every_qos(version))
    suite.add("every QoS both ways on one connection", both_ways(version))
    suite.add("empty, binary and long payloads", sizes_of_payloads(version))
    suite.add("unsubscribe", unsubscribe(version))
    suite.add("retained message set, replaced and cleared", retained(version))
    suite.add("will of a killed socket, none after DISCONNECT", will(version))
    for qos in (1, 2):
        suite.add(f"{QUEUED} messages queued offline at QoS {qos} and resumed in order", queued_offline(version, qos))
    suite.add("takeover", takeover(version))
    suite.add("shared subscription of two members", shared(version))


def add_version_5(suite):
    suite.add("properties, live and retained", properties)
    suite.add("properties of queued messages", properties_of_queued_messages)
    suite.add("properties of a will", properties_of_a_will)
    suite.add("will delay", will_delay)
    suite.add("will after DISCONNECT 0x04", disconnect_with_will)
    suite.add("message expiry counted down and expired", message_expiry)
    suite.add("topic alias from the client", topic_alias_from_the_client)
    suite.add("topic alias from the broker", topic_alias_from_the_broker)
    suite.add("no local, retain as published, retain handling", subscription_options)
    suite.add("subscription identifiers of overlapping subscriptions", subscription_identifiers)


if __name__ == "__main__":
    main(list(suites()))
