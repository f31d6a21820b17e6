"""mosquitto_sub, mosquitto_pub and mosquitto_rr as the scenarios drive them."""

import collections
import os
import queue
import subprocess
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from harness import DEADLINE, Child, Failure, certificate, expect, expect_that  # noqa: E402

# Defaults that a user keeps for these programs must not reach the scenarios.
os.environ["XDG_CONFIG_HOME"] = os.devnull

# name of the version in the case names -> value of the option -V
VERSIONS = {"v3.1": "mqttv31", "v3.1.1": "mqttv311", "v5": "mqttv5"}

SEPARATOR = "\x1f"
FIELDS = "topic qos retain payload content_type response_topic correlation_data expiry format identifier user".split()
FORMAT = SEPARATOR.join(["MESSAGE", "%t", "%q", "%r", "%x", "%C", "%R", "%D", "%E", "%F", "%S", "%P"])

Message = collections.namedtuple("Message", FIELDS)


def parse_message(line):
    """One line printed by FORMAT."""
    values = dict(zip(FIELDS, line.split(SEPARATOR)[1:]))
    values["qos"] = int(values["qos"])
    values["retain"] = values["retain"] == "1"
    values["payload"] = bytes.fromhex(values["payload"])
    values["expiry"] = int(values["expiry"]) if values["expiry"] else None
    return Message(**values)


def common(program, address, version, client_id):
    """A program with the options that all three share; `stdbuf`, because into a pipe they would print in blocks."""
    command = ["stdbuf", "-oL", program, *where(address), "-V", VERSIONS[version]]
    return command + (["-i", client_id] if client_id else [])


def where(address):
    """The options for an address. These programs know no WebSocket before version 2.1."""
    if address.transport == "unix":
        return ["--unix", address.port]
    trust = ["--cafile", certificate("ca.pem")] if address.transport == "tls" else []
    return ["-h", "127.0.0.1", "-p", str(address.port), *trust]


def identity(name):
    """The options for a client certificate."""
    return ["--cert", certificate(f"{name}.pem"), "--key", certificate(f"{name}.key")] if name else []


class Sub(Child):
    """A running mosquitto_sub whose subscriptions have been acknowledged."""

    def __init__(self, address, version, topics, *options, qos=2, client_id=None, granted=None, inbox=None):
        topics = [topics] if isinstance(topics, str) else topics
        command = common("mosquitto_sub", address, version, client_id) + ["-d", "-F", FORMAT, "-q", str(qos)]
        for topic in topics:
            command += ["-t", topic]
        super().__init__([*command, *options])
        self.inbox = queue.Queue() if inbox is None else inbox
        self._subscribed = queue.Queue()
        threading.Thread(target=self._sort, daemon=True).start()
        try:
            self._expect_granted([qos] * len(topics) if granted is None else granted)
        except BaseException:
            self.kill()
            raise

    def _sort(self):
        while (line := self.lines.next(None)) is not None:
            if line.startswith("MESSAGE" + SEPARATOR):
                self.inbox.put((self, parse_message(line)))
            elif line.startswith("Subscribed "):
                self._subscribed.put([int(code) for code in line.split(": ")[-1].split(", ")])
        self._subscribed.put(None)

    def _expect_granted(self, expected):
        try:
            codes = self._subscribed.get(timeout=DEADLINE)
        except queue.Empty:
            codes = "no SUBACK"
        if codes != expected:
            raise Failure(f"mosquitto_sub: expected SUBACK {expected}, got {codes}: {list(self.lines.seen)[-8:]!r}")

    def message(self, deadline=DEADLINE):
        """The next message."""
        try:
            return self.inbox.get(timeout=deadline)[1]
        except queue.Empty:
            raise Failure(f"no message within {deadline} s: {list(self.lines.seen)[-8:]!r}") from None

    def expect_message(self, topic, payload, qos, retain=False):
        """The next message is exactly this one."""
        got = self.message()
        expect((got.topic, got.payload, got.qos, got.retain), (topic, payload.encode(), qos, retain), "message")
        return got

    def end(self):
        """A clean end: mosquitto_sub sends DISCONNECT on SIGTERM."""
        expect(self.terminate(), 0, "exit code of mosquitto_sub after SIGTERM")


def publish(address, version, topic, payload, *options, qos=0, client_id=None, deadline=DEADLINE):
    """Publishes one message, and with QoS 1 and 2 returns after it was acknowledged. No payload: an empty one."""
    body = ["-n"] if payload is None else ["-m", payload]
    command = common("mosquitto_pub", address, version, client_id) + ["-t", topic, "-q", str(qos), *body, *options]
    _run(command, deadline)


def publish_lines(address, version, topic, lines, *options, qos=0, deadline=DEADLINE):
    """Publishes each line as a message over one connection."""
    command = common("mosquitto_pub", address, version, None) + ["-t", topic, "-q", str(qos), "-l", *options]
    _run(command, deadline, "".join(line + "\n" for line in lines))


def publish_text(address, version, topic, text, *options, qos=0, deadline=DEADLINE):
    """Publishes one message that is too long for a command line."""
    command = common("mosquitto_pub", address, version, None) + ["-t", topic, "-q", str(qos), "-s", *options]
    _run(command, deadline, text)


def _run(command, deadline, stdin=""):
    try:
        done = subprocess.run(command, input=stdin, timeout=deadline, capture_output=True, text=True, check=False)
    except subprocess.TimeoutExpired as error:
        raise Failure(f"{command[0]} did not end within {deadline} s: {error.stderr!r}") from None
    expect_that(done.returncode == 0, f"{command}: exit code {done.returncode}: {done.stdout}{done.stderr}")
