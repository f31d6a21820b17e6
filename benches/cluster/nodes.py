"""The brokers that are compared: two nodes with a Redis, or one node alone."""

import contextlib
import pathlib
import tempfile

from parts import aedes, redis_server
from parts.processes import announced_port, end, free_port, output, start, wait_for
from parts.redis_server import Redis


class Ours:
    """Nodes of this broker; without `appendfsync` just one, which keeps nothing and knows of no cluster."""

    home = None

    def __init__(self, name, path, appendfsync):
        self.name, self.path, self.appendfsync = name, path, appendfsync
        self.nodes = 2 if appendfsync else 1
        self.missing = redis_server.MISSING if appendfsync and not redis_server.program() else None

    def command(self, place, port, redis_port):
        command = [self.path, "--host", "127.0.0.1", "--port", str(port), "--threads", str(len(place.cores))]
        if redis_port:
            command += ["--redis", f"redis://127.0.0.1:{redis_port}", "--http-port", str(place.http_port)]
        return command

    def wait(self, process, port):
        return announced_port(process)

    def version(self):
        return output([self.path, "--version"])


class Aedes:
    nodes = 2

    def __init__(self, name, appendfsync):
        self.name, self.appendfsync = name, appendfsync
        self.program = aedes.WithRedis()
        self.missing, self.home = self.program.missing, self.program.home

    def command(self, place, port, redis_port):
        return self.program.command(port, redis_port)

    def wait(self, process, port):
        return wait_for(process, port)

    def version(self):
        return self.program.version()


class Node:
    """One that runs."""

    def __init__(self, peer, cores, redis_port, log):
        self.cores, self.http_port = cores, free_port()
        wanted = free_port()
        command = peer.command(self, wanted, redis_port)
        self.process = start(command, cores, cwd=peer.home, stderr=log)
        try:
            self.port = peer.wait(self.process, wanted)
        except BaseException:
            end(self.process)
            raise


class Running:
    """A peer that runs."""

    def __init__(self, peer, redis, nodes):
        self.peer, self.redis, self.nodes = peer, redis, nodes

    def processes(self):
        """By what they are called in the figures."""
        found = {f"node {number}": node.process for number, node in enumerate(self.nodes, 1)}
        return {**found, "Redis": self.redis.process} if self.redis else found


@contextlib.contextmanager
def running(peer, cores, redis_cores, first_by=None):
    """The peer with a Redis of its own. `first_by` makes something that the first node reaches that by, with a `port`."""
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        log = stack.enter_context((pathlib.Path(directory) / "log").open("w"))
        redis = None
        if peer.appendfsync:
            redis = Redis(directory, peer.appendfsync, redis_cores)
            stack.callback(end, redis.process)
        nodes = []
        for number in range(peer.nodes):
            by = stack.enter_context(first_by(redis.port)) if first_by and number == 0 else redis
            nodes.append(Node(peer, cores, by.port if by else None, log))
            # Those of ours have nothing to do at their end that would be measured.
            stack.callback(end, nodes[-1].process, True)
        yield Running(peer, redis, nodes)
