"""`broker pub` and `broker sub` beside Mosquitto's clients, and with Mosquitto's broker."""

import os
import socket
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "mosquitto"))
sys.path.insert(0, os.path.join(HERE, "..", "support"))

from mosquitto_clients import VERSIONS, Sub, publish, where  # noqa: E402

from harness import (  # noqa: E402
    DEADLINE, TRANSPORTS, WITH_TLS, Address, Child, Failure, Suite, certificate, expect, expect_that, main, over,
    wait_until,
)

PROPERTIES = [
    "-D", "publish", "content-type", "text/plain", "-D", "publish", "response-topic", "answers/here",
    "-D", "publish", "correlation-data", "c1", "-D", "publish", "message-expiry-interval", "300",
    "-D", "publish", "payload-format-indicator", "1", "-D", "publish", "user-property", "name", "value",
    "-D", "publish", "user-property", "name", "other",
]  # fmt: skip
# All conversions but those of the time, and the object without its first member.
LINE = "%t|%p|%q|%r|%l|%x|%X|%A|%C|%D|%E|%F|%P|%R|%S|%10t|%-10t|%05l|\\t|%%|@@"
BYTES = bytes(range(256)) * 300


def tool(name, address, version, *options):
    """`broker pub` or `broker sub`, with the options that lead it to an address."""
    scheme, trust = TRANSPORTS[address.transport][0], []
    url = f"{scheme}://{address.port}" if address.transport == "unix" else f"{scheme}://127.0.0.1:{address.port}"
    if address.transport in WITH_TLS:
        trust = ["--cafile", certificate("ca.pem")]
    return [os.environ["BROKER_BIN"], name, "-L", url, "-V", VERSIONS[version], *trust, *options]


def run(command, stdin=b"", deadline=DEADLINE):
    """Runs a program to its end: exit code, output, errors."""
    done = subprocess.run(command, input=stdin, timeout=deadline, capture_output=True, check=False)
    return done.returncode, done.stdout, done.stderr.decode("utf-8", "replace")


def succeed(command, stdin=b""):
    """Runs a program that must succeed, and say nothing: what it printed."""
    code, output, errors = run(command, stdin)
    expect((code, errors), (0, ""), f"{command}")
    return output


# --- Beside Mosquitto's clients --------------------------------------------------------------------------------------


def ours_to_theirs(address):
    """What `broker pub` publishes is what mosquitto_sub receives."""
    for version in VERSIONS:
        with Sub(address, version, "ours/#") as sub:
            for qos in (0, 1, 2):
                options = ["-t", f"ours/{qos}", "-q", str(qos)]
                succeed(tool("pub", address, version, *options, "-m", "text"))
                sub.expect_message(f"ours/{qos}", "text", qos)
                succeed(tool("pub", address, version, *options, "-n"))
                sub.expect_message(f"ours/{qos}", "", qos)
                succeed(tool("pub", address, version, *options, "-s"), BYTES)
                got = sub.message()
                expect((got.payload == BYTES, got.qos), (True, qos), "bytes")
            if version == "v5":
                succeed(tool("pub", address, version, "-t", "ours/p", "-m", "p", *PROPERTIES))
                got = sub.message()
                expected = ("text/plain", "answers/here", "c1", "1", "name:value name:other")
                found = (got.content_type, got.response_topic, got.correlation_data, got.format, got.user)
                expect(found, expected, "properties")
            sub.end()


def theirs_to_ours(address):
    """What mosquitto_pub publishes is what `broker sub` prints, and it prints it as mosquitto_sub does."""
    for version in VERSIONS:
        for form in (LINE, "%j", None):
            theirs = ["stdbuf", "-oL", "mosquitto_sub", *where(address), "-V", VERSIONS[version]]
            ours = tool("sub", address, version)
            options = ["-t", "theirs/#", "-q", "2", "-C", "4", *(["-F", form] if form else ["-v"])]
            publish(address, version, "theirs/first", "retained", "-r", qos=1)
            children = [Child([*command, *options]) for command in (theirs, ours)]
            try:
                # Both have subscribed when they print the retained message.
                lines = [[strip_time(child.lines.next())] for child in children]
                publish(address, version, "theirs/a", 'say "hi" \\ \u00e9', *(PROPERTIES if version == "v5" else []), qos=2)
                publish(address, version, "theirs/empty", None, qos=1)
                publish(address, version, "theirs/b", "second", qos=0)
                for printed, child in zip(lines, children):
                    printed += [strip_time(child.lines.next()) for _ in range(3)]
                expect(lines[1], lines[0], f"what is printed for {version} and {form}")
                expect([child.wait() for child in children], [0, 0], "exit codes")
            finally:
                for child in children:
                    child.kill()
            publish(address, version, "theirs/first", None, "-r", qos=1)


def strip_time(line):
    """Without the time of an object, which is that of the program."""
    if line and line.startswith('{"tst":"'):
        time_of_it, rest = line.split('",', 1)
        expect(len(time_of_it), len('{"tst":"2026-01-02T03:04:05.678901Z+0000'), f"the length of the time in {line}")
        return rest
    return line


def exit_codes_are_the_same(address):
    """For what a script may meet."""
    closed = socket.create_server(("127.0.0.1", 0))
    port = closed.getsockname()[1]
    closed.close()
    for version in ("v3.1.1", "v5"):
        nowhere = Address("tcp", port)
        for options, target in (
            (["-t", "x", "-W", "1"], address),
            (["-t", "x", "-E"], address),
            (["-t", "x"], nowhere),
        ):
            theirs = run(["mosquitto_sub", *where(target), "-V", VERSIONS[version], *options])[0]
            expect(run(tool("sub", target, version, *options))[0], theirs, f"exit code of sub {options} {version}")
        for options, target in ((["-t", "x", "-m", "x", "-q", "1"], address), (["-t", "x", "-m", "x"], nowhere)):
            theirs = run(["mosquitto_pub", *where(target), "-V", VERSIONS[version], *options])[0]
            expect(run(tool("pub", target, version, *options))[0], theirs, f"exit code of pub {options} {version}")


# --- With Mosquitto's broker -----------------------------------------------------------------------------------------


class Mosquitto:
    """Mosquitto's broker, with a listener for each transport."""

    def __init__(self, *lines, transports=("tcp",)):
        self._directory = tempfile.TemporaryDirectory(prefix="mosquitto-")
        self.addresses, config = [], [*lines, "log_type all", "user root"]
        for transport in transports:
            if transport == "unix":
                path = os.path.join(self._directory.name, "socket")
                config.append(f"listener 0 {path}")
                self.addresses.append(Address(transport, path))
            else:
                port = self._free_port()
                config.append(f"listener {port} 127.0.0.1")
                self.addresses.append(Address(transport, port))
            if transport in WITH_TLS:
                config += [f"certfile {certificate('server.pem')}", f"keyfile {certificate('server.key')}"]
            if transport in ("ws", "wss"):
                config.append("protocol websockets")
        path = os.path.join(self._directory.name, "mosquitto.conf")
        with open(path, "w", encoding="utf-8") as file:
            file.write("\n".join(config) + "\n")
        self._child = Child(["mosquitto", "-c", path])

    def __enter__(self):
        try:
            for address in self.addresses:
                wait_until(lambda: self._answers(address), f"Mosquitto at {address}")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self._child.kill()
        self._directory.cleanup()

    def _free_port(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            return listener.getsockname()[1]

    def _answers(self, address):
        if self._child.process.poll() is not None:
            raise Failure(f"Mosquitto has ended: {list(self._child.lines.seen)}")
        kind = socket.AF_UNIX if address.transport == "unix" else socket.AF_INET
        with socket.socket(kind) as sock:
            place = address.port if address.transport == "unix" else ("127.0.0.1", address.port)
            return sock.connect_ex(place) == 0


def with_mosquitto():
    """Every version and QoS, over every transport that it knows."""
    transports = list(TRANSPORTS)
    with Mosquitto("allow_anonymous true", transports=transports) as mosquitto:
        for address in mosquitto.addresses:
            # Mosquitto takes a tenth of a second for whatever comes over a WebSocket.
            for version in ["v5"] if address.transport in ("ws", "wss") else VERSIONS:
                for qos in ("0", "1", "2"):
                    topic = f"{address.transport}/{version}/{qos}"
                    session = ["-i", topic.replace("/", "-").replace(".", ""), "-c", "-q", qos, "-t", topic]
                    succeed(tool("sub", address, version, *session, "-E"))
                    retain = ["-r"] if qos == "0" else []
                    succeed(tool("pub", address, version, "-t", topic, "-q", qos, "-s", *retain), BYTES)
                    got = succeed(tool("sub", address, version, *session, "-C", "1", "-N", "-W", "10"))
                    expect_that(got == BYTES, f"{topic}: {len(got)} bytes")


def many_to_mosquitto():
    """Its Receive Maximum and its limits of messages under way are kept: all arrive, in order."""
    lines = [f"line {number}" for number in range(2000)]
    with Mosquitto("allow_anonymous true", "max_inflight_messages 5", "max_queued_messages 0") as mosquitto:
        address = mosquitto.addresses[0]
        for qos in ("1", "2"):
            session = ["-i", "many", "-c", "-q", qos, "-t", "many"]
            succeed(tool("sub", address, "v5", *session, "-E"))
            text = "".join(line + "\n" for line in lines).encode()
            succeed(tool("pub", address, "v5", "-t", "many", "-l", "-q", qos, "-M", "1000"), text)
            got = succeed(tool("sub", address, "v5", *session, "-C", str(len(lines)), "-W", "60"))
            expect_that(got == text, f"QoS {qos}: {len(got)} bytes of {len(text)}")


def refused_by_mosquitto():
    """A wrong password: the exit code is that of Mosquitto's clients."""
    with tempfile.NamedTemporaryFile("w", suffix=".passwords") as users:
        succeed_quietly(["mosquitto_passwd", "-b", users.name, "ann", "secret"])
        with Mosquitto("allow_anonymous false", f"password_file {users.name}") as mosquitto:
            address = mosquitto.addresses[0]
            for version in ("v3.1.1", "v5"):
                succeed(tool("pub", address, version, "-t", "x", "-m", "x", "-q", "1", "-u", "ann", "-P", "secret"))
                for login in ([], ["-u", "ann", "-P", "wrong"]):
                    theirs = ["mosquitto_pub", *where(address), "-V", VERSIONS[version], "-t", "x", "-m", "x", *login]
                    code, _, errors = run(tool("pub", address, version, "-t", "x", "-m", "x", *login))
                    expect(code, run(theirs)[0], f"exit code for {login} {version}: {errors}")
                    expect_that("refuses the connection" in errors, errors)


def succeed_quietly(command):
    """Runs a program that must succeed, whatever it says."""
    code, _, errors = run(command)
    expect_that(code == 0, f"{command}: {code}: {errors}")


def suites():
    for transport in ("tcp", "tls", "unix"):
        suite = Suite(over("tools", transport), transports=(transport,))
        suite.add("broker pub to mosquitto_sub", ours_to_theirs)
        suite.add("mosquitto_pub to broker sub", theirs_to_ours)
        yield suite
    codes = Suite("tools, exit codes")
    codes.add("they are those of Mosquitto's clients", exit_codes_are_the_same)
    yield codes
    alone = Suite("tools with Mosquitto", transports=())
    alone.add("every version, QoS and transport", with_mosquitto)
    alone.add("many messages", many_to_mosquitto)
    alone.add("wrong passwords", refused_by_mosquitto)
    yield alone


if __name__ == "__main__":
    main(list(suites()))
