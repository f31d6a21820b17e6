"""A redis-server of our own, and what it says of itself."""

import pathlib
import socket
import subprocess
import threading

from .mqtt import exactly
from .processes import free_port, output, start, wait_for, which

MISSING = "redis-server is missing: apt-get install redis-server"


def program():
    """Where Debian puts it, which may not be in everybody's PATH."""
    return which("redis-server", "/usr/sbin")


def version():
    return output([program(), "--version"])


class Redis:
    """Runs from the beginning; `process` is to be ended."""

    def __init__(self, directory, appendfsync, cores):
        self.port = free_port()
        path = pathlib.Path(directory) / "redis"
        path.mkdir(exist_ok=True)
        command = [program(), "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        command += ["--appendonly", "yes", "--appendfsync", appendfsync, "--dir", str(path)]
        self.process = start(command, cores, stderr=subprocess.DEVNULL)
        threading.Thread(target=self.process.stdout.read, daemon=True).start()
        wait_for(self.process, self.port)

    def ask(self, *words):
        """The answer to a command, as it comes."""
        command = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
        with socket.create_connection(("127.0.0.1", self.port)) as client:
            client.sendall(command)
            head = b""
            while not head.endswith(b"\r\n"):
                head += exactly(client, 1)
            return head + (exactly(client, int(head[1:])) if head[:1] == b"$" else b"")

    def info(self, *sections):
        """The fields of these sections of INFO, as text."""
        lines = self.ask(b"INFO", *sections).decode().splitlines()
        return dict(line.split(":", 1) for line in lines[1:] if ":" in line)

    def used_memory(self):
        return int(self.info(b"memory")["used_memory"])

    def calls(self):
        """How often each command was called; those within scripts count as well."""
        stats = self.info(b"commandstats").items()
        return {name.removeprefix("cmdstat_"): int(value.split("calls=")[1].split(",")[0]) for name, value in stats}
