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
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback

DEADLINE = 10.0
BURST_DEADLINE = 60.0

LISTENING = re.compile(r"^listening on mqtt://127\.0\.0\.1:(\d+)$")


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

    def __init__(self, command, stdin=None, stderr=subprocess.STDOUT, env=None):
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
    """The broker under test, on a port that the kernel chose."""

    def __init__(self, *options):
        binary = os.environ.get("BROKER_BIN")
        if not binary:
            sys.exit("BROKER_BIN does not name a broker binary; `tests/run --only NAME` builds one and sets it")
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        self._child = Child([binary, "--host", "127.0.0.1", "--port", "0", *options], stderr=self._log)
        try:
            self.port = self._read_port()
        except BaseException:
            self._child.kill()
            raise

    def _read_port(self):
        deadline = time.monotonic() + DEADLINE
        while True:
            line = self._child.lines.next(max(0.0, deadline - time.monotonic()))
            if line is None:
                raise Failure(f"the broker ended before it listened (exit code {self._child.wait()}):\n{self.log()}")
            found = LISTENING.match(line)
            if found:
                return int(found.group(1))

    def log(self, lines=25):
        """The end of what it wrote to standard error."""
        self._log.seek(0)
        return "".join(self._log.readlines()[-lines:])

    def stop(self):
        """SIGTERM must drain and exit with code 0."""
        exit_code = self._child.process.poll()
        expect_that(exit_code is None, f"the broker ended by itself with exit code {exit_code}:\n{self.log()}")
        expect(self._child.terminate(), 0, "exit code of the broker after SIGTERM")

    def kill(self):
        """The end when something has gone wrong already."""
        self._child.kill()


class Tap:
    """A relay between one client and the broker that keeps every packet, for what a client does not show.

    It takes a single connection, so a client that reconnects by itself after a takeover is refused here.
    """

    def __init__(self, port):
        import socket

        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._upstream_port = port
        self._changed = threading.Condition()
        self._packets = {"client": [], "broker": []}
        self._closed = {"client": False, "broker": False}
        self._sockets = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for sock in [self._listener, *self._sockets]:
            sock.close()

    def _accept(self):
        import socket

        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        self._listener.close()
        broker = socket.create_connection(("127.0.0.1", self._upstream_port))
        self._sockets = [client, broker]
        for sock in self._sockets:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=self._relay, args=("client", client, broker), daemon=True).start()
        threading.Thread(target=self._relay, args=("broker", broker, client), daemon=True).start()

    def _relay(self, origin, source, sink):
        import socket

        pending = bytearray()
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                pending += data
                self._record(origin, pending)
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
        with self._changed:
            self._closed[origin] = True
            self._changed.notify_all()

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
    """The cases that share one running broker."""

    def __init__(self, name):
        self.name = name
        self.cases = []

    def add(self, name, function):
        """Adds a case: a function of the broker's port."""
        self.cases.append(Case(f"{self.name}: {name}", function))


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
            failed += _run_suite(suite.name, cases)
    sys.exit(1 if failed else 0)


def _run_suite(name, cases):
    started = time.monotonic()
    try:
        broker = Broker()
    except (Failure, OSError) as error:
        _report(f"{name}: the broker starts", error, time.monotonic() - started)
        return 1
    _report(f"{name}: the broker starts", None, time.monotonic() - started)
    try:
        failed = sum(not _run_case(case, broker) for case in cases)
        failed += not _run_case(Case(f"{name}: the broker ends with exit code 0 on SIGTERM", lambda _: broker.stop()), broker)
    finally:
        broker.kill()
    return failed


def _run_case(case, broker):
    started = time.monotonic()
    error = None
    try:
        case.function(broker.port)
    except Exception as caught:
        error = caught
    _report(case.name, error, time.monotonic() - started)
    if error is not None:
        _indent(broker.log() or "(the broker logged nothing)")
    return error is None


def _report(name, error, seconds):
    if error is None:
        print(f"ok {name} ({seconds:.2f} s)", flush=True)
        return
    print(f"not ok {name} ({seconds:.2f} s)")
    _indent("".join(traceback.format_exception(type(error), error, error.__traceback__)))


def _indent(text):
    print("\n".join("    " + line for line in text.rstrip().splitlines()), flush=True)
