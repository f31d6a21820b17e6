"""1,000 TLS clients exchange messages while the certificate of the broker is replaced."""

import asyncio
import contextlib
import os
import shutil
import ssl
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from harness import (  # noqa: E402
    BURST_DEADLINE,
    DEADLINE,
    Failure,
    Suite,
    certificate,
    client_context,
    expect,
    expect_that,
    main,
    running,
    take_packet,
)

CLIENTS = 1000
# Handshakes at a time; more would only wait for each other.
CONNECTING = 50

CONNACK, PUBLISH, PUBACK, SUBACK = 2, 3, 4, 9


def text(value):
    return len(value).to_bytes(2, "big") + value.encode()


def packet(first, body):
    expect_that(len(body) < 128, "packets of this scenario are short")
    return bytes([first, len(body)]) + body


class Member:
    """One of a ring of clients: in each round it sends to the next one, and hears from the one before."""

    def __init__(self, number):
        self.number = number
        self.rounds = 0
        self._buffer = bytearray()

    async def connect(self, port, context):
        self._reader, self._writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=context, server_hostname="127.0.0.1")
        await self._send(packet(0x10, text("MQTT") + b"\x04\x02\x00\x00" + text(f"member-{self.number}")))
        expect((await self._packet(CONNACK))[1], 0, "return code of the CONNACK")
        await self._send(packet(0x82, b"\x00\x01" + text(f"ring/{self.number}") + b"\x01"))
        expect((await self._packet(SUBACK))[2], 1, "granted QoS")

    async def round(self):
        self.rounds += 1
        following = (self.number + 1) % CLIENTS
        payload = f"{self.number} {self.rounds}".encode()
        await self._send(packet(0x32, text(f"ring/{following}") + b"\x00\x01" + payload))
        wanted = {PUBACK, PUBLISH}
        while wanted:
            kind, body = await self._any_packet()
            expect_that(kind in wanted, f"packet of type {kind}, expected were {wanted}")
            wanted.remove(kind)
            if kind == PUBLISH:
                await self._take(body)

    async def _take(self, body):
        topic = text(f"ring/{self.number}")
        identifier, payload = body[len(topic):len(topic) + 2], body[len(topic) + 2:]
        before = (self.number - 1) % CLIENTS
        expect((body[:len(topic)], payload), (topic, f"{before} {self.rounds}".encode()), "message")
        await self._send(packet(0x40, identifier))

    async def close(self):
        await self._send(b"\xe0\x00")
        expect(await self._reader.read(1), b"", "end of the connection after DISCONNECT")
        self._writer.close()

    async def _send(self, data):
        self._writer.write(data)
        await self._writer.drain()

    async def _packet(self, kind):
        got, body = await self._any_packet()
        expect(got, kind, "type of a packet")
        return body

    async def _any_packet(self):
        while (found := take_packet(self._buffer)) is None:
            data = await self._reader.read(65536)
            expect_that(data, f"connection {self.number} was closed in round {self.rounds}")
            self._buffer += data
        return found[0] >> 4, found[1]


class Ring:
    """The clients, which go round and round until they are told to stop."""

    def __init__(self, port):
        self._port = port
        self._members = [Member(n) for n in range(CLIENTS)]
        self._turning = None

    @property
    def rounds(self):
        return min(member.rounds for member in self._members)

    async def __aenter__(self):
        context, gate = client_context(), asyncio.Semaphore(CONNECTING)

        async def connect(member):
            async with gate:
                await member.connect(self._port, context)

        await asyncio.gather(*map(connect, self._members))
        self._turning = asyncio.create_task(self._turn())
        return self

    async def _turn(self):
        self._stopped = False
        while not self._stopped:
            await asyncio.gather(*(member.round() for member in self._members))

    async def turned(self, rounds=2):
        """Waits until all have finished so many more rounds; fails as soon as one connection does."""
        last = self.rounds + rounds
        deadline = time.monotonic() + BURST_DEADLINE
        # In a new round at the end of the last: its messages were delivered.
        while self.rounds <= last:
            await pause(self._turning)
            expect_that(time.monotonic() < deadline, f"round {self.rounds} of {last} within {BURST_DEADLINE} s")

    async def until(self, condition, what):
        """Waits for a condition, a coroutine, while the ring turns."""
        deadline = time.monotonic() + DEADLINE
        while not await condition():
            await pause(self._turning)
            expect_that(time.monotonic() < deadline, f"{what}: not within {DEADLINE} s")

    async def __aexit__(self, kind, *_):
        self._stopped = True
        if kind is None:
            await asyncio.wait_for(self._turning, BURST_DEADLINE)
            await asyncio.gather(*(member.close() for member in self._members))
        else:
            self._turning.cancel()


async def pause(task):
    """Lets a task run for a moment; fails if it has ended."""
    done, _ = await asyncio.wait([task], timeout=0.02)
    if done:
        task.result()
        raise Failure("the ring has stopped")


class Files:
    """The certificate and the key that the broker reads."""

    def __init__(self, directory):
        self.certificate = os.path.join(directory, "used.pem")
        self.key = os.path.join(directory, "used.key")
        self.put("server.pem", "server.key")

    @property
    def options(self):
        return ["--tls-cert", self.certificate, "--tls-key", self.key]

    def put(self, new_certificate=None, new_key=None):
        """Replaces one or both, each in one step."""
        for name, path in ((new_certificate, self.certificate), (new_key, self.key)):
            if name is not None:
                shutil.copy(certificate(name), path + ".new")
                os.replace(path + ".new", path)

    def spoil(self):
        with open(self.certificate, "w", encoding="utf-8") as file:
            file.write("-----BEGIN CERTIFICATE-----\nnothing of the kind\n")


def known(name):
    """A certificate as it is shown in a handshake."""
    with open(certificate(name), encoding="utf-8") as file:
        first = file.read().split("-----END CERTIFICATE-----")[0]
    return ssl.PEM_cert_to_DER_cert(first + "-----END CERTIFICATE-----")


async def shown(port):
    """The certificate that the broker shows in a new handshake, which checks that it is a good one."""
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_context(), server_hostname="127.0.0.1")
    with contextlib.closing(writer):
        return writer.get_extra_info("ssl_object").getpeercert(binary_form=True)


def showing(port, name):
    """A condition: whether new handshakes show this certificate."""
    async def condition():
        return await shown(port) == known(name)

    return condition


def replaced(steps):
    """Runs some steps with a broker of their own and a ring of clients, none of which may notice."""

    def case():
        with tempfile.TemporaryDirectory() as directory:
            files = Files(directory)
            with running(*files.options, transports=["tls"]) as broker:
                asyncio.run(while_turning(steps, broker, files))

    return case


async def while_turning(steps, broker, files):
    port = broker.addresses[0].port
    async with Ring(port) as ring:
        await ring.turned()
        expect_that(await shown(port) == known("server.pem"), "another certificate than that of the start")
        await steps(ring, broker, files, port)
        await ring.turned()


async def on_hang_up(ring, broker, files, port):
    for name in ("server2", "server"):
        files.put(f"{name}.pem", f"{name}.key")
        broker.hang_up()
        await ring.until(showing(port, f"{name}.pem"), f"{name}.pem in a new handshake after SIGHUP")
        await ring.turned()


async def on_change(ring, _broker, files, port):
    for name in ("server2", "server"):
        files.put(f"{name}.pem", f"{name}.key")
        await ring.until(showing(port, f"{name}.pem"), f"{name}.pem in a new handshake after its file has changed")
        await ring.turned()


async def half_replaced(ring, broker, files, port):
    """A certificate without its key is of no use: the old pair stays until the new one is complete."""
    files.put("server2.pem")
    await refused(ring, broker, port)
    files.put(None, "server2.key")
    broker.hang_up()
    await ring.until(showing(port, "server2.pem"), "server2.pem in a new handshake when its key has come")


async def spoiled(ring, broker, files, port):
    files.spoil()
    await refused(ring, broker, port)
    files.put("server2.pem", "server2.key")
    broker.hang_up()
    await ring.until(showing(port, "server2.pem"), "server2.pem in a new handshake after a file that was none")


async def refused(ring, broker, port):
    """The broker says that it cannot use the files, and goes on with what it has."""
    broker.hang_up()

    async def said():
        return any(level in broker.log(None) for level in ("ERROR", "WARN"))

    await ring.until(said, "a word in the log about files of no use")
    await ring.turned()
    expect_that(await shown(port) == known("server.pem"), "the broker shows something else than the last good one")


def suites():
    suite = Suite(f"{CLIENTS:,} TLS clients", transports=())
    suite.add("a new certificate after SIGHUP", replaced(on_hang_up))
    suite.add("a new certificate when its file changes", replaced(on_change))
    suite.add("a new certificate before its key", replaced(half_replaced))
    suite.add("a file that is no certificate", replaced(spoiled))
    yield suite


if __name__ == "__main__":
    main(list(suites()))
