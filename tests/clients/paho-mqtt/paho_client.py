"""A paho-mqtt client as the scenarios drive it: every callback becomes an item of a queue."""

import os
import queue
import socket
import sys

from paho.mqtt import client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from harness import DEADLINE, Failure, expect, expect_that  # noqa: E402

VERSIONS = {"v3.1": mqtt.MQTTv31, "v3.1.1": mqtt.MQTTv311, "v5": mqtt.MQTTv5}


def properties(kind, **values):
    """A paho Properties object, or None for none."""
    if not values:
        return None
    block = Properties(kind)
    for name, value in values.items():
        setattr(block, name, value)
    return block


def take(items, what, deadline=DEADLINE):
    """The next item of a queue."""
    try:
        return items.get(timeout=deadline)
    except queue.Empty:
        raise Failure(f"no {what} within {deadline} s") from None


class Client:
    """A connected client; it never reconnects by itself, and its `with` block ends it."""

    def __init__(self, port, version, client_id="", persistent=False, present=False, inbox=None, will=None, **connect):
        self.v5 = version == "v5"
        self.inbox = queue.Queue() if inbox is None else inbox
        self._connected, self._granted, self._lost = queue.Queue(), queue.Queue(), queue.Queue()
        self._client = self._create(version, client_id, persistent)
        if will:
            self._set_will(**will)
        self._connect(port, persistent, connect)
        flags, reason, self.connack = take(self._connected, "CONNACK")
        expect(str(reason), "Success", "reason code of the CONNACK")
        # MQTT 3.1 has no session present bit: it is reserved there, and zero.
        expect(bool(flags.session_present), present and version != "v3.1", "session present")

    def _create(self, version, client_id, persistent):
        settings = {} if self.v5 else {"clean_session": not persistent}
        client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,
            client_id=client_id or ("" if self.v5 else f"paho{id(self) % 10**15}"),
            protocol=VERSIONS[version],
            reconnect_on_failure=False,
            **settings,
        )
        # A burst is published at once, not in the windows of 20 that paho starts with.
        client.max_inflight_messages_set(65535)
        client.on_connect = lambda _c, _u, flags, reason, props: self._connected.put((flags, reason, props))
        client.on_subscribe = lambda _c, _u, _mid, codes, _props: self._granted.put([code.value for code in codes])
        client.on_unsubscribe = lambda _c, _u, _mid, codes, _props: self._granted.put([code.value for code in codes])
        client.on_disconnect = lambda _c, _u, flags, reason, _props: self._lost.put((flags, reason))
        client.on_message = lambda _c, _u, message: self.inbox.put((self, message))
        return client

    def _set_will(self, topic, payload, qos=0, retain=False, **values):
        block = properties(PacketTypes.WILLMESSAGE, **values)
        self._client.will_set(topic, payload, qos, retain, *([block] if self.v5 else []))

    def _connect(self, port, persistent, connect):
        settings = {}
        if self.v5:
            if persistent:
                connect["SessionExpiryInterval"] = 3600
            settings = {"clean_start": not persistent, "properties": properties(PacketTypes.CONNECT, **connect)}
        self._client.connect("127.0.0.1", port, 60, **settings)
        self._client.loop_start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        self._client.loop_stop()

    def subscribe(self, topic, qos=2, granted=None, options=None, **values):
        """Subscribes, and checks the codes of the SUBACK."""
        if self.v5:
            options = options or mqtt.SubscribeOptions(qos=qos)
            self._client.subscribe(topic, options=options, properties=properties(PacketTypes.SUBSCRIBE, **values))
        else:
            self._client.subscribe(topic, qos)
        expect(take(self._granted, "SUBACK"), [qos] if granted is None else granted, "SUBACK codes")

    def unsubscribe(self, topic):
        """Unsubscribes, and waits for the UNSUBACK."""
        self._client.unsubscribe(topic)
        expect(take(self._granted, "UNSUBACK"), [0] if self.v5 else [], "UNSUBACK codes")

    def start_publish(self, topic, payload, qos=0, retain=False, **values):
        """Publishes without waiting for the acknowledgement; returns what `finish` takes."""
        block = [properties(PacketTypes.PUBLISH, **values)] if self.v5 else []
        return self._client.publish(topic, payload, qos, retain, *block)

    def finish(self, info, deadline=DEADLINE):
        """Waits until a message is acknowledged in full."""
        info.wait_for_publish(deadline)
        expect_that(info.is_published(), f"message {info.mid} was not acknowledged within {deadline} s")

    def publish(self, *arguments, **keywords):
        """Publishes and waits until the message is acknowledged in full."""
        self.finish(self.start_publish(*arguments, **keywords))

    def message(self, deadline=DEADLINE):
        """The next message."""
        return take(self.inbox, "message", deadline)[1]

    def expect_message(self, topic, payload, qos, retain=False):
        """The next message is exactly this one."""
        got = self.message()
        wanted = payload if isinstance(payload, bytes) else payload.encode()
        expect((got.topic, got.payload, got.qos, got.retain), (topic, wanted, qos, retain), "message")
        return got

    def disconnect(self, reason=None):
        """A clean end; returns when the broker has taken the DISCONNECT and closed, which a second handle sees."""
        with self._client.socket().dup() as sock:
            self._client.disconnect(*([reason] if self.v5 else []))
            take(self._lost, "end of the connection")
            sock.settimeout(DEADLINE)
            while sock.recv(65536):
                pass

    def kill(self):
        """Closes the socket without DISCONNECT."""
        sock = self._client.socket()
        if sock is not None:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # The other side was faster.

    def wait_lost(self):
        """Waits until the broker has ended the connection; returns the code of its DISCONNECT, or None."""
        flags, reason = take(self._lost, "end of the connection")
        return reason.value if flags.is_disconnect_packet_from_server else None
