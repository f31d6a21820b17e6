"""5,000 messages in one burst to paho-mqtt with its default Receive Maximum."""

from paho_client import Client

from flood import flood
from harness import BURST_DEADLINE, Suite, expect, expect_sequence, main, over

LINES = [f"{n} of a burst that must arrive whole, in order and once" for n in range(5000)]


def publish_with_paho(address, version, topic, qos):
    with Client(address, version) as pub:
        infos = [pub.start_publish(topic, line, qos) for line in [*LINES, "end"]]
        for info in infos:
            pub.finish(info, BURST_DEADLINE)
        pub.disconnect()


def publish_in_one_write(address, version, topic, qos):
    flood(address, version == "v5", topic, [*LINES, "end"], qos)


def burst(publish_all, version, qos):
    def case(address):
        topic = f"burst/{qos}"
        with Client(address, version) as sub:
            sub.subscribe(topic)
            publish_all(address, version, topic, qos)
            got = []
            # "end" is published last on the same topic, so that an extra copy of any message comes before it.
            while (message := sub.message()).payload != b"end":
                expect((message.topic, message.qos, message.retain), (topic, qos, False), "message")
                got.append(message.payload.decode())
            expect_sequence(got, LINES, "burst")
            sub.disconnect()

    return case


def suites():
    # Through both layers at once, which have buffers of their own.
    for transport in ("tcp", "wss"):
        for version in ("v3.1.1", "v5"):
            suite = Suite(over(f"paho-mqtt bursts {version}", transport), transports=[transport])
            for qos in (0, 1, 2):
                suite.add(f"5,000 from paho-mqtt at QoS {qos}", burst(publish_with_paho, version, qos))
                if transport == "tcp":
                    suite.add(f"5,000 in one write at QoS {qos}", burst(publish_in_one_write, version, qos))
            yield suite


if __name__ == "__main__":
    main(list(suites()))
