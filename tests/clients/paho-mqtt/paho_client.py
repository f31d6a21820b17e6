"""A paho-mqtt client as the scenarios drive it: every callback becomes an item of a queue."""

import contextlib
import os
import queue
import socket
import sys

from paho.mqtt import client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from harness import DEADLINE, WITH_TLS, Failure, client_context, expect, expect_that  # noqa: E402

VERSIONS = {"v3.1": mqtt.MQTTv31, "v3.1.1": mqtt.MQTTv311, "v5": mqtt.MQTTv5}

# What paho calls the transports of the harness; TLS is a setting beside it.
PAHO_TRANSPORTS = {"tcp": "tcp", "tls": "tcp", "ws": "websockets", "wss": "websockets", "unix": "unix"}


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


class Closed(Failure):
    """The broker closed the connection instead of accepting it."""


class Client:
    """A connected client; it never reconnects by itself, and its `with` block ends it."""

    def __init__(
        self,
        address,
        version,
        client_id="",
        persistent=False,
        present=False,
        inbox=None,
        will=None,
        identity=None,
        source="",
        headers=None,
        **connect,
    ):
        """`identity` names a client certificate, `source` the local address, `headers` those of a WebSocket."""
        self.v5 = version == "v5"
        self.inbox = queue.Queue() if inbox is None else inbox
        self._connected, self._granted, self._lost = queue.Queue(), queue.Queue(), queue.Queue()
        self._client = self._create(address.transport, version, client_id, persistent)
        if address.transport in WITH_TLS:
            self._client.tls_set_context(client_context(identity))
        if PAHO_TRANSPORTS[address.transport] == "websockets":
            self._client.ws_set_options("/mqtt", headers)
        if will:
            self._set_will(**will)
        self._connect(address, source, persistent, connect)
        answer = take(self._connected, "CONNACK")
        if answer is None:
            raise Closed("the connection was closed before the CONNACK")
        flags, reason, self.connack = answer
        expect(str(reason), "Success", "reason code of the CONNACK")
        # MQTT 3.1 has no session present bit: it is reserved there, and zero.
        expect(bool(flags.session_present), present and version != "v3.1", "session present")

    def _create(self, transport, version, client_id, persistent):
        settings = {} if self.v5 else {"clean_session": not persistent}
        client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,
            client_id=client_id or ("" if self.v5 else f"paho{id(self) % 10**15}"),
            protocol=VERSIONS[version],
            transport=PAHO_TRANSPORTS[transport],
            reconnect_on_failure=False,
            **settings,
        )
        # A burst is published at once, not in the windows of 20 that paho starts with.
        client.max_inflight_messages_set(65535)
        client.on_connect = lambda _c, _u, flags, reason, props: self._connected.put((flags, reason, props))
        client.on_subscribe = lambda _c, _u, _mid, codes, _props: self._granted.put([code.value for code in codes])
        client.on_unsubscribe = lambda _c, _u, _mid, codes, _props: self._granted.put([code.value for code in codes])
        client.on_disconnect = self._on_disconnect
        client.on_message = lambda _c, _u, message: self.inbox.put((self, message))
        return client

    def _on_disconnect(self, _client, _userdata, flags, reason, _properties):
        self._lost.put((flags, reason))
        self._connected.put(None)

    def _set_will(self, topic, payload, qos=0, retain=False, **values):
        block = properties(PacketTypes.WILLMESSAGE, **values)
        self._client.will_set(topic, payload, qos, retain, *([block] if self.v5 else []))

    def _connect(self, address, source, persistent, connect):
        settings = {}
        if self.v5:
            if persistent:
                connect["SessionExpiryInterval"] = 3600
            settings = {"clean_start": not persistent, "properties": properties(PacketTypes.CONNECT, **connect)}
        # The path of a local socket is the host to paho, and it wants a port with that.
        host, port = (address.port, 1) if address.transport == "unix" else ("127.0.0.1", address.port)
        self._client.connect(host, port, 60, source, **settings)
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
        with self._handle() as sock:
            self._client.disconnect(*([reason] if self.v5 else []))
            take(self._lost, "end of the connection")
            sock.settimeout(DEADLINE)
            while sock.recv(65536):
                pass

    def kill(self):
        """Closes the socket without DISCONNECT, and without the farewell of TLS and WebSocket."""
        # The other side may have been faster.
        with contextlib.suppress(OSError, AttributeError), self._handle() as sock:
            sock.shutdown(socket.SHUT_RDWR)

    def _handle(self):
        """The connection below TLS and WebSocket, once more."""
        return socket.socket(fileno=os.dup(self._client.socket().fileno()))

    @property
    def local_address(self):
        """Where this side of the connection is, as the broker would print it."""
        with self._handle() as sock:
            return "{}:{}".format(*sock.getsockname())

    def wait_lost(self):
        """Waits until the broker has ended the connection; returns the code of its DISCONNECT, or None."""
        flags, reason = take(self._lost, "end of the connection")
        return reason.value if flags.is_disconnect_packet_from_server else None
