"""What every Python scenario shares: the broker under test, deadlines, child processes, the case runner.

A scenario prints one line per case, `ok NAME` or `not ok NAME`, which `tests/run` counts; everything else it
prints is for a reader. Nothing here sleeps to synchronise: each wait is for an event and has a deadline.
"""

import argparse
import collections
import contextlib
import os
import queue
import re
import select
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import traceback

DEADLINE = 10.0
BURST_DEADLINE = 60.0

# How a client reaches the broker: the scheme of the address that the broker prints, and the options that ask for it.
TRANSPORTS = {
    "tcp": ("mqtt", []),
    "tls": ("mqtts", []),
    "ws": ("ws", ["--ws-port", "0"]),
    "wss": ("wss", ["--wss-port", "0"]),
    "unix": ("mqtt+unix", []),
}
WITH_TLS = ("tls", "wss")
LISTENING = re.compile(r"^listening on ([a-z+]+)://(?:127\.0\.0\.1:(\d+)(?:/mqtt)?|(/.+))$")


class Failure(AssertionError):
    """An expectation about the broker that did not hold."""


def expect(actual, expected, what):
    """Fails unless both are equal, and shows both."""
    if actual != expected:
        raise Failure(f"{what}: expected {expected!r}, got {actual!r}")


def expect_that(condition, what):
    """Fails unless the condition holds."""
    if not condition:
        raise Failure(what)


def expect_sequence(actual, expected, what):
    """Like `expect` for long lists: names the first difference instead of printing thousands of items."""
    if actual == expected:
        return
    counts = collections.Counter(actual)
    twice = [item for item, count in counts.items() if count > 1]
    missing = [item for item in expected if item not in counts]
    differing = next((i for i, (a, b) in enumerate(zip(actual, expected)) if a != b), min(len(actual), len(expected)))
    raise Failure(
        f"{what}: {len(actual)} received, {len(expected)} expected, {len(missing)} missing (first {missing[:3]!r}), "
        f"{len(twice)} more than once (first {twice[:3]!r}), first difference at {differing}: "
        f"got {actual[differing:differing + 3]!r}, expected {expected[differing:differing + 3]!r}"
    )


def let_time_pass(seconds):
    """For the rules that are about elapsed time itself (message expiry); never to wait for something to happen."""
    time.sleep(seconds)


def wait_until(condition, what, deadline=DEADLINE):
    """For what nobody announces, such as a line in a file: looks again and again, and returns what it found."""
    end = time.monotonic() + deadline
    while not (found := condition()):
        expect_that(time.monotonic() < end, f"{what}: not within {deadline} s")
        time.sleep(0.02)
    return found


def certificate(name):
    """The path of a file that `certs/make` has made."""
    directory = os.environ.get("TEST_CERTS")
    if not directory:
        sys.exit("TEST_CERTS does not name a directory filled by `certs/make`; `tests/run --only NAME` makes one")
    return os.path.join(directory, name)


def client_context(identity=None, authority="ca"):
    """What a TLS client of the tests' own trusts, and which certificate it shows."""
    context = ssl.create_default_context(cafile=certificate(f"{authority}.pem"))
    if identity:
        context.load_cert_chain(certificate(f"{identity}.pem"), certificate(f"{identity}.key"))
    return context


# Where a broker can be reached: `port` is the path of the socket if the transport is `unix`.
Address = collections.namedtuple("Address", "transport port")


class Lines:
    """The lines of a pipe, read by a thread as they come, so that waiting for one can have a deadline."""

    def __init__(self, stream, name):
        self.name = name
        self.seen = collections.deque(maxlen=40)
        self._queue = queue.Queue()
        threading.Thread(target=self._read, args=(stream,), daemon=True).start()

    def _read(self, stream):
        with stream:
            for line in stream:
                self._queue.put(line.rstrip("\n"))
        self._queue.put(None)

    def next(self, deadline=DEADLINE):
        """The next line, or None at the end of the stream."""
        try:
            line = self._queue.get(timeout=deadline)
        except queue.Empty:
            raise Failure(f"{self.name}: no line within {deadline} s; the last were {list(self.seen)[-8:]!r}") from None
        if line is None:
            self._queue.put(None)
        else:
            self.seen.append(line)
        return line


class Child:
    """A child process with line-wise output, which never outlives its `with` block."""

    def __init__(self, command, stdin=None, stderr=subprocess.STDOUT, env=None, pass_fds=()):
        self.name = os.path.basename(command[0])
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            encoding="utf-8",
            errors="surrogateescape",
            env=env,
            pass_fds=pass_fds,
        )
        self.lines = Lines(self.process.stdout, self.name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def kill(self):
        """SIGKILL: the kernel closes its socket, and nothing of MQTT is said."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(DEADLINE)

    def wait(self, deadline=DEADLINE):
        """The exit code."""
        try:
            return self.process.wait(deadline)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.name} did not end within {deadline} s: {list(self.lines.seen)[-8:]!r}") from None

    def terminate(self, deadline=DEADLINE):
        """SIGTERM, then the exit code."""
        self.process.terminate()
        return self.wait(deadline)


class Broker:
    """The broker under test: for each transport a listener, on a port that the kernel chose."""

    def __init__(self, *options, transports=("tcp",)):
        binary = os.environ.get("BROKER_BIN")
        if not binary:
            sys.exit("BROKER_BIN does not name a broker binary; `tests/run --only NAME` builds one and sets it")
        self._log = tempfile.TemporaryFile()
        self._directory = tempfile.TemporaryDirectory(prefix="broker-")
        listeners = self._listeners(transports, options)
        self._child = Child([binary, "--host", "127.0.0.1", *listeners, *options], stderr=self._log)
        try:
            self.addresses = self._read_addresses(transports)
        except BaseException:
            self.kill()
            raise

    def _listeners(self, transports, options):
        """The options that open these listeners; those of a test may name another certificate."""
        chosen = ["--port", "0"] if "tcp" in transports else ["--no-tcp"]
        if set(transports) & set(WITH_TLS):
            chosen += ["--tls-port", "0"]
            if "--tls-cert" not in options:
                chosen += ["--tls-cert", certificate("server.pem"), "--tls-key", certificate("server.key")]
        if "unix" in transports:
            chosen += ["--unix-socket", os.path.join(self._directory.name, "socket")]
        return chosen + [word for transport in transports for word in TRANSPORTS[transport][1]]

    def _read_addresses(self, transports):
        """An address for each transport, in their order."""
        names = {TRANSPORTS[transport][0]: transport for transport in transports}
        found, deadline = {}, time.monotonic() + DEADLINE
        while len(found) < len(transports):
            line = self._child.lines.next(max(0.0, deadline - time.monotonic()))
            if line is None:
                raise Failure(f"the broker ended before it listened (exit code {self._child.wait()}):\n{self.log()}")
            if (listening := LISTENING.match(line)) and listening[1] in names:
                transport = names[listening[1]]
                found[transport] = Address(transport, int(listening[2]) if listening[2] else listening[3])
        return [found[transport] for transport in transports]

    def hang_up(self):
        """SIGHUP, on which it reads its files again."""
        self._child.process.send_signal(signal.SIGHUP)

    def wait_for_log(self, pattern):
        """Waits until it has logged something that the regular expression matches, and returns the match."""
        return wait_until(lambda: re.search(pattern, self.log(None)), f"{pattern!r} in the log")

    def log(self, lines=25):
        """The end of what it wrote to standard error, or all of it."""
        # Not `seek`: the broker writes where the position of the file is, and shares it.
        size = os.fstat(self._log.fileno()).st_size
        text = os.pread(self._log.fileno(), size, 0).decode("utf-8", "replace")
        return text if lines is None else "".join(text.splitlines(keepends=True)[-lines:])

    def stop(self):
        """SIGTERM must drain and exit with code 0."""
        exit_code = self._child.process.poll()
        expect_that(exit_code is None, f"the broker ended by itself with exit code {exit_code}:\n{self.log()}")
        expect(self._child.terminate(), 0, "exit code of the broker after SIGTERM")

    def kill(self):
        """The end when something has gone wrong already."""
        self._child.kill()
        self._directory.cleanup()


@contextlib.contextmanager
def running(*options, transports=("tcp",)):
    """A broker for one case alone, whose log is shown if the case fails."""
    broker = Broker(*options, transports=transports)
    try:
        yield broker
        broker.stop()
    except BaseException:
        show(broker.log() or "(the broker logged nothing)")
        raise
    finally:
        broker.kill()


def connect(address, source=None):
    """A plain connection to an address, without its TLS, from a local address that a case may choose."""
    if address.transport == "unix":
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(DEADLINE)
        sock.connect(address.port)
        return sock
    sock = socket.create_connection(("127.0.0.1", address.port), DEADLINE, source and (source, 0))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


class Tap:
    """A relay between one client and the broker that keeps every packet, for what a client does not show.

    It takes a single connection, so a client that reconnects by itself after a takeover is refused here.
    """

    def __init__(self, address):
        self._upstream = address
        self._tls = address.transport in WITH_TLS
        self._listener = socket.create_server(("127.0.0.1", 0))
        # What cannot be a local socket here is TCP: this side of the relay is not what a case is about.
        self.address = Address("tls" if self._tls else "tcp", self._listener.getsockname()[1])
        self._changed = threading.Condition()
        self._packets = {"client": [], "broker": []}
        self._closed = {"client": False, "broker": False}
        self._sockets = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for sock in [self._listener, *self._sockets]:
            # Otherwise the relay, which waits for the socket, would keep it open.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
            sock.close()

    def _accept(self):
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        self._listener.close()
        broker = connect(self._upstream)
        self._sockets = [client, broker]
        with contextlib.suppress(OSError, ValueError):
            if self._tls:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(certificate("server.pem"), certificate("server.key"))
                client = context.wrap_socket(client, server_side=True)
                broker = client_context().wrap_socket(broker, server_hostname="127.0.0.1")
                self._sockets = [client, broker]
            self._relay(client, broker)

    def _relay(self, client, broker):
        """One thread for both directions, because two must not use a TLS connection at a time."""
        routes = {client: ("client", broker, bytearray()), broker: ("broker", client, bytearray())}
        while routes:
            for source in select.select(list(routes), [], [])[0]:
                origin, sink, _ = route = routes[source]
                if self._forward(source, *route):
                    continue
                del routes[source]
                # Past the TLS of the socket, which could not be read any more.
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(sink, socket.SHUT_WR)
                with self._changed:
                    self._closed[origin] = True
                    self._changed.notify_all()

    def _forward(self, source, origin, sink, pending):
        """Passes on all that can be read without waiting; whether more may come."""
        try:
            while True:
                source.settimeout(0)
                data = source.recv(65536)
                if not data:
                    return False
                pending += data
                self._record(origin, pending)
                sink.settimeout(DEADLINE)
                sink.sendall(data)
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            return False

    def _record(self, origin, pending):
        with self._changed:
            while (packet := take_packet(pending)) is not None:
                self._packets[origin].append(packet)
            self._changed.notify_all()

    def packets(self, origin, kind):
        """The packets of one type, so far."""
        with self._changed:
            return [packet for packet in self._packets[origin] if packet[0] >> 4 == kind]

    def packet(self, origin, kind):
        """Waits for the first packet of one type."""
        with self._changed:
            found = self._changed.wait_for(
                lambda: next((p for p in self._packets[origin] if p[0] >> 4 == kind), None) or self._closed[origin],
                DEADLINE,
            )
        expect_that(isinstance(found, tuple), f"no packet of type {kind} from the {origin} within {DEADLINE} s")
        return found

    def session_present(self):
        """The session present bit of the accepting CONNACK."""
        _, body = self.packet("broker", CONNACK)
        expect(body[1], 0, "reason code of the CONNACK")
        expect_that(body[0] in (0, 1), f"reserved bits of the CONNACK flags: {body[0]:#x}")
        return body[0] == 1

    def wait_closed_by_broker(self):
        """Waits until the broker has closed the connection."""
        with self._changed:
            closed = self._changed.wait_for(lambda: self._closed["broker"], DEADLINE)
        expect_that(closed, f"the broker did not close the connection within {DEADLINE} s")


CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, DISCONNECT = 2, 3, 4, 5, 6, 7, 14


def take_packet(buffer):
    """Takes the first whole packet off a buffer: its first byte and its body."""
    length, shift, index = 0, 0, 1
    while True:
        if index >= len(buffer):
            return None
        byte = buffer[index]
        length |= (byte & 0x7F) << shift
        index, shift = index + 1, shift + 7
        if byte < 0x80:
            break
    if len(buffer) < index + length:
        return None
    packet = (buffer[0], bytes(buffer[index:index + length]))
    del buffer[:index + length]
    return packet


def publish_parts(packet, version5):
    """Topic, packet identifier, property bytes and payload of a PUBLISH."""
    first, body = packet
    end = 2 + int.from_bytes(body[:2], "big")
    topic, rest = body[2:end], body[end:]
    identifier = 0
    if first & 0x06:
        identifier, rest = int.from_bytes(rest[:2], "big"), rest[2:]
    if not version5:
        return topic.decode(), identifier, b"", rest
    length, shift, index = 0, 0, 0
    while True:
        byte = rest[index]
        length |= (byte & 0x7F) << shift
        index, shift = index + 1, shift + 7
        if byte < 0x80:
            break
    return topic.decode(), identifier, rest[index:index + length], rest[index + length:]


Case = collections.namedtuple("Case", "name function")


class Suite:
    """The cases that share one running broker, or each has its own if the suite names no transport."""

    def __init__(self, name, *options, transports=("tcp",)):
        self.name = name
        self.options = options
        self.transports = transports
        self.cases = []

    def add(self, name, function):
        """Adds a case: a function of the broker's address, or of one for each transport of the suite."""
        self.cases.append(Case(f"{self.name}: {name}", function))


def over(name, transport):
    """The name of a suite that does the same as others over another transport."""
    return name if transport == "tcp" else f"{name} over {transport}"


def main(suites):
    """Runs the suites, each against a broker of its own; the exit code says whether all passed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--list", action="store_true", help="print the names of the cases and end")
    parser.add_argument("--only", default="", metavar="TEXT", help="run the cases whose name contains TEXT")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    failed = 0
    for suite in suites:
        cases = [case for case in suite.cases if arguments.only in case.name]
        if arguments.list:
            print("\n".join(case.name for case in cases))
        elif cases:
            failed += _run_suite(suite, cases)
    sys.exit(1 if failed else 0)


def _run_suite(suite, cases):
    if not suite.transports:
        return sum(not _run_case(case) for case in cases)
    starts, started = f"{suite.name}: the broker starts", time.monotonic()
    try:
        broker = Broker(*suite.options, transports=suite.transports)
    except (Failure, OSError) as error:
        _report(starts, error, time.monotonic() - started)
        return 1
    _report(starts, None, time.monotonic() - started)
    try:
        failed = sum(not _run_case(case, broker) for case in cases)
        ends = Case(f"{suite.name}: the broker ends with exit code 0 on SIGTERM", lambda *_: broker.stop())
        failed += not _run_case(ends, broker)
    finally:
        broker.kill()
    return failed


def _run_case(case, broker=None):
    started = time.monotonic()
    error = None
    try:
        case.function(*(broker.addresses if broker else []))
    except Exception as caught:
        error = caught
    _report(case.name, error, time.monotonic() - started)
    if error is not None and broker is not None:
        show(broker.log() or "(the broker logged nothing)")
    return error is None


def _report(name, error, seconds):
    if error is None:
        print(f"ok {name} ({seconds:.2f} s)", flush=True)
        return
    print(f"not ok {name} ({seconds:.2f} s)")
    show("".join(traceback.format_exception(type(error), error, error.__traceback__)))


def show(text):
    """Prints what belongs to the case above or below."""
    print("\n".join("    " + line for line in text.rstrip().splitlines()), flush=True)
