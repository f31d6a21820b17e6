"""5,000 messages in one burst to mosquitto_sub with its default Receive Maximum of 20."""

from mosquitto_clients import VERSIONS, Sub, publish_lines

from flood import flood
from harness import BURST_DEADLINE, Suite, expect, expect_sequence, main

LINES = [f"{n} of a burst that must arrive whole, in order and once" for n in range(5000)]


def from_mosquitto_pub(version, qos):
    return burst(version, qos, lambda address, topic: publish_lines(
        address, version, topic, [*LINES, "end"], qos=qos, deadline=BURST_DEADLINE))


def from_one_write(version, qos):
    return burst(version, qos, lambda address, topic: flood(address, version == "v5", topic, [*LINES, "end"], qos))


def burst(version, qos, publish_all):
    def case(address):
        topic = f"burst/{qos}"
        with Sub(address, version, topic) as sub:
            publish_all(address, topic)
            got = []
            # "end" is published last on the same topic, so that an extra copy of any message comes before it.
            while (message := sub.message()).payload != b"end":
                expect((message.topic, message.qos, message.retain), (topic, qos, False), "message")
                got.append(message.payload.decode())
            expect_sequence(got, LINES, "burst")
            sub.end()

    return case


def suites():
    for version in VERSIONS:
        suite = Suite(f"mosquitto bursts {version}")
        for qos in (0, 1, 2):
            suite.add(f"5,000 from mosquitto_pub at QoS {qos}", from_mosquitto_pub(version, qos))
            if version != "v3.1":
                suite.add(f"5,000 in one write at QoS {qos}", from_one_write(version, qos))
        yield suite


if __name__ == "__main__":
    main(list(suites()))
