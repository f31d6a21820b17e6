"""The little of MQTT 3.1.1 that the scripts speak themselves."""

import socket
import struct

from .processes import Failure


def text(value):
    return struct.pack(">H", len(value)) + value


def packet(first, body):
    size, length = len(body), bytearray()
    while True:
        size, byte = size >> 7, size & 0x7F
        length.append(byte | (0x80 if size else 0))
        if not size:
            return bytes([first]) + bytes(length) + body


def connect_packet(name, clean):
    return packet(0x10, text(b"MQTT") + bytes([4, 2 if clean else 0, 0, 0]) + text(name))


def subscribe_packet(topic):
    return packet(0x82, b"\x00\x01" + text(topic) + b"\x01")


def exactly(client, size):
    data = bytearray()
    while len(data) < size:
        more = client.recv(min(size - len(data), 1 << 20))
        if not more:
            raise Failure("the broker has closed a connection")
        data += more
    return bytes(data)


def connection(port):
    client = socket.create_connection(("127.0.0.1", port))
    client.settimeout(120)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client
