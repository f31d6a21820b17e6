"""A publisher that writes all its PUBLISH packets at once, which no client library does: the hardest burst."""

import threading

from harness import BURST_DEADLINE, CONNACK, PUBACK, PUBCOMP, PUBREC, connect, expect, take_packet


def flood(address, version5, topic, payloads, qos):
    """Publishes all payloads in one write and returns when the broker has acknowledged each in full."""
    with connect(address) as sock:
        sock.settimeout(BURST_DEADLINE)
        sock.sendall(_connect(version5))
        packets = _packets(sock)
        first, body = next(packets)
        expect((first >> 4, body[1]), (CONNACK, 0), "CONNACK")
        # While this side is still writing, the broker must be read from: its acknowledgements could fill the socket.
        burst = b"".join(_publish(version5, topic, text.encode(), qos, n + 1) for n, text in enumerate(payloads))
        writer = threading.Thread(target=sock.sendall, args=(burst,), daemon=True)
        writer.start()
        if qos > 0:
            _acknowledged(sock, packets, PUBACK if qos == 1 else PUBREC, len(payloads), writer)
        writer.join(BURST_DEADLINE)
        sock.sendall(b"\xe0\x00")
        # Closing with unread bytes or before the broker has read all would reset the connection.
        while sock.recv(65536):
            pass


def _acknowledged(sock, packets, kind, count, writer):
    """The acknowledgements come complete and in the order of the messages [MQTT-4.6.0-2], [MQTT-4.6.0-3]."""
    expect([_identifier(next(packets), kind) for _ in range(count)], list(range(1, count + 1)), "acknowledgements")
    if kind == PUBREC:
        writer.join(BURST_DEADLINE)
        sock.sendall(b"".join(b"\x62\x02" + n.to_bytes(2, "big") for n in range(1, count + 1)))
        got = [_identifier(next(packets), PUBCOMP) for _ in range(count)]
        expect(got, list(range(1, count + 1)), "PUBCOMP packets")


def _identifier(packet, kind):
    first, body = packet
    expect(first >> 4, kind, "type of an acknowledgement")
    reason = body[2] if len(body) > 2 else 0
    expect(reason in (0, 0x10), True, f"reason code {reason:#x} accepts the message")
    return int.from_bytes(body[:2], "big")


def _packets(sock):
    pending = bytearray()
    while True:
        while (packet := take_packet(pending)) is not None:
            yield packet
        data = sock.recv(65536)
        expect(bool(data), True, "the connection of the flooding publisher is open")
        pending += data


def _connect(version5):
    body = b"\x00\x04MQTT" + (b"\x05" if version5 else b"\x04") + b"\x02\x00\x00" + (b"\x00" if version5 else b"")
    return _packet(0x10, body + b"\x00\x05flood")


def _publish(version5, topic, payload, qos, identifier):
    name = topic.encode()
    body = len(name).to_bytes(2, "big") + name + (identifier.to_bytes(2, "big") if qos else b"")
    return _packet(0x30 | qos << 1, body + (b"\x00" if version5 else b"") + payload)


def _packet(first, body):
    length, encoded = len(body), bytearray()
    while True:
        length, digit = length >> 7, length & 0x7F
        encoded.append(digit | (0x80 if length else 0))
        if not length:
            return bytes([first]) + bytes(encoded) + body
