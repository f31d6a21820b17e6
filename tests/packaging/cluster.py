"""The cluster of docker/compose.cluster.yaml, and what docs/cluster.md says and shows, tried with real processes."""

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request

from ruamel.yaml import YAML

from container import IS_ROOT, ROOT, Image, free_port, read, run, succeed

from harness import DEADLINE, Child, Suite, certificate, expect, expect_that, wait_until

# Of a scene with waits of its own.
SCENE = 120.0


def yaml(path):
    """What a file says, with anchors and merge keys resolved."""
    return YAML(typ="safe", pure=True).load(read(path))


def ask(port, path):
    """Status and text of what an HTTP listener answers; None as long as nobody is there."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=DEADLINE) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return None


# --- As Compose runs it ----------------------------------------------------------------------------------------------


class Node(contextlib.ExitStack):
    """A container of the file, with ports that are free, on the loopback interface."""

    def __init__(self, service, redis_port):
        super().__init__()
        self.tls, self.http = free_port(), free_port()
        expect(service["environment"]["BROKER_REDIS"], "redis://redis:6379", "where Redis is")
        expect(service["volumes"], ["./config:/etc/broker:ro"], "what is mounted")
        self.env = {name: str(value) for name, value in service["environment"].items()}
        self.env |= {
            "BROKER_HOST": "127.0.0.1", "BROKER_TLS_PORT": str(self.tls), "BROKER_REDIS": f"redis://127.0.0.1:{redis_port}",
            "BROKER_HTTP_HOST": "127.0.0.1", "BROKER_HTTP_PORT": str(self.http), "BROKER_TRUSTED_PROXIES": "127.0.0.0/8",
        }
        self.image = self.enter_context(Image())
        self.image.configure()
        self.child, url = self.enter_context(self.image.broker(env=self.env))
        expect(url, f"mqtts://127.0.0.1:{self.tls}", "where it listens")

    def clients(self):
        """How many are connected."""
        answer = ask(self.http, "/metrics")
        return int(re.search(r"^mqtt_broker_connected_clients (\d+)$", answer[1], re.MULTILINE)[1]) if answer else 0


@contextlib.contextmanager
def redis(arguments, *, directory=None):
    """A redis-server with these arguments; its port."""
    expect(arguments[0], "redis-server", "the program")
    port = free_port()
    with contextlib.ExitStack() as stack:
        directory = directory or stack.enter_context(tempfile.TemporaryDirectory())
        command = [*arguments, "--port", str(port), "--bind", "127.0.0.1", "--dir", directory]
        child = stack.enter_context(Child(command))
        while "Ready to accept connections" not in (line := child.lines.next() or "it has ended"):
            expect_that(line != "it has ended", f"{command}: {list(child.lines.seen)}")
        yield port


def haproxy_of_compose(nodes):
    """The configuration with the places of these nodes, and its ports: that of clients, and that of health."""
    ports = free_port(), free_port()
    text = read("docker/haproxy.cfg").replace("bind :8883", f"bind 127.0.0.1:{ports[0]}")
    text = text.replace("127.0.0.1:8404", f"127.0.0.1:{ports[1]}")
    # As many as fit into the limit of open files of whoever tests.
    text, times = re.subn(r"maxconn \d+", "maxconn 500", text)
    expect(times, 1, "lines with maxconn")
    for number, node in enumerate(nodes, 1):
        place = f"node{number}:8883 check port 9883"
        expect_that(place in text, f"{place} is not in the configuration")
        text = text.replace(place, f"127.0.0.1:{node.tls} check port {node.http}")
    return text, *ports


def health_of_haproxy(service, port):
    """Whether the health check of the file, which is run in the container, says yes."""
    kind, *command = service["healthcheck"]["test"]
    expect(kind, "CMD", "the kind of check")
    return run([part.replace("8404", str(port)) for part in command])[0] == 0


def expect_no_session_lost(nodes, client):
    """A session is resumed at another node when its own has been killed."""
    command = nodes[0].image.command("sub", *client, "-i", "bob", "-c")
    with Child(command, stderr=subprocess.DEVNULL) as subscriber:
        wait_until(lambda: sum(node.clients() for node in nodes) == 1, "the subscriber is there")
        expect(nodes[0].image.run("pub", *client, "-m", "before"), (0, ""), "publishing")
        expect(subscriber.lines.next(), "before", "the first message")
        its = next(node for node in nodes if node.clients() == 1)
        its.child.kill()
        # HAProxy has not noticed yet, and tries another one.
        expect(nodes[0].image.run("pub", *client, "-m", "after"), (0, ""), "publishing to the others")
        expect(subscriber.lines.next(deadline=SCENE), "after", "the message for the session")
    return its


def as_compose_runs_the_cluster():
    """Nodes, Redis and HAProxy with what the file says of them; a node is killed, then all are."""
    services = yaml("docker/compose.cluster.yaml")["services"]
    names = ("node1", "node2", "node3")
    with contextlib.ExitStack() as stack:
        redis_port = stack.enter_context(redis(services["redis"]["command"]))
        check = services["redis"]["healthcheck"]["test"]
        expect(check[0], "CMD-SHELL", "the kind of check")
        succeed(["sh", "-c", check[1].replace("redis-cli", f"redis-cli -p {redis_port}")])
        nodes = [stack.enter_context(Node(services[name], redis_port)) for name in names]
        for node in nodes:
            expect(node.image.run("healthcheck", env=node.env)[0], 0, "exit code of the health check")
        text, port, health_port = haproxy_of_compose(nodes)
        configuration = stack.enter_context(tempfile.NamedTemporaryFile("w", suffix=".cfg"))
        configuration.write(text)
        configuration.flush()
        stack.enter_context(Child(["haproxy", "-db", "-f", configuration.name]))
        wait_until(lambda: health_of_haproxy(services["haproxy"], health_port), "HAProxy is healthy")
        client = ["-L", f"mqtts://127.0.0.1:{port}", "--cafile", "/etc/broker/ca.pem", "-q", "1", "-t", "house/door"]
        expect(nodes[0].image.run("pub", *client, "-m", "open")[0], 5, "exit code without a password")
        killed = expect_no_session_lost(nodes, [*client, "-u", "ann", "-P", "secret"])
        expect_that(health_of_haproxy(services["haproxy"], health_port), "HAProxy is not healthy with two nodes")
        metrics = next(ask(node.http, "/metrics")[1] for node in nodes if node is not killed)
        expect_metrics_to_be_there(metrics)
        for node in nodes:
            node.child.kill()
        wait_until(lambda: not health_of_haproxy(services["haproxy"], health_port), "HAProxy notices that there is no node")


def expect_metrics_to_be_there(metrics):
    """Those that the documents name are those of a node."""
    for document in ("docs/cluster.md", "docs/sizing.md", "docs/kubernetes.md"):
        for name in re.findall(r"`(mqtt_broker_\w+)`", read(document)):
            expect_that(f"# TYPE {name} " in metrics, f"{document}: there is no metric {name}")


# --- What docs/cluster.md shows --------------------------------------------------------------------------------------


def alone(*command):
    """A command in a network and with processes of its own: all ports are free, and nothing outlives it."""
    user = [] if IS_ROOT else ["--user", "--map-root-user"]
    script = 'ip link set lo up && exec "$@"'
    return ["unshare", *user, "--net", "--pid", "--fork", "--kill-child", "bash", "-c", script, "bash", *command]


def section(document, heading):
    """The text below a heading."""
    _, rest = read(document).split(f"\n## {heading}\n", 1)
    return rest.split("\n## ", 1)[0]


def blocks(text, kind):
    """Pieces of code of one kind, which is what stands behind the fence."""
    found, inside = [], None
    for line in text.splitlines(keepends=True):
        if not line.startswith("```"):
            if inside == kind:
                found[-1] += line
        elif inside is None:
            inside = line.strip("`\n")
            found += [""] if inside == kind else []
        else:
            inside = None
    return found


def comparable(line):
    """A line without what differs from one run to the next."""
    line = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME", line)
    return re.sub(r"\bnode=\d+", "node=N", line).strip()


def ten_minutes():
    """The commands of the guide as they stand there say what stands there, in that order."""
    text = section("docs/cluster.md", "Ten minutes")
    expected = [comparable(line) for block in blocks(text, "") for line in block.splitlines()]
    expect_that(len(expected) > 10, f"it shows too little: {expected}")
    with tempfile.TemporaryDirectory() as directory:
        os.symlink(os.environ["BROKER_BIN"], os.path.join(directory, "broker"))
        script = "set -e\n" + "".join(blocks(text, "sh"))
        path = f"{directory}:{os.environ['PATH']}"
        code, said = run(alone("bash", "-c", script), cwd=directory, deadline=SCENE, env={**os.environ, "PATH": path})
    expect(code, 0, f"exit code: {said}")
    # Others may be between; `in` goes on behind the one that it found last.
    lines = iter([comparable(line) for line in said.splitlines()])
    for line in expected:
        expect_that(line in lines, f"{line!r} does not come, or not in this order:\n{said}")


def three_machines():
    """Redis with Sentinels, nodes and HAProxy with the files of docs/cluster, on three addresses; the master is killed."""
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "three-machines")
    with tempfile.TemporaryDirectory() as directory:
        os.symlink(os.environ["BROKER_BIN"], os.path.join(directory, "broker"))
        env = {**os.environ, "PATH": f"{directory}:{os.environ['PATH']}"}
        code, said = run(alone("bash", script, ROOT, certificate(""), directory), cwd=directory, deadline=SCENE, env=env)
    expect_that(code == 0 and said.endswith("all is well\n"), f"exit code {code}: {said}")


def without(text, *titles):
    """A configuration of HAProxy without some of its sections."""
    parts = re.split(r"\n(?=(?:frontend|backend) )", text)
    kept = [part for part in parts if part.split("\n", 1)[0] not in titles]
    expect(len(parts) - len(kept), len(titles), "sections that are left out")
    return "\n".join(kept)


def load_balancers():
    """HAProxy and nginx take the configurations: that TLS passes through, that it ends there, and the other one."""
    passing = read("docs/cluster/haproxy.cfg").replace("log /dev/log local0", "log stdout local0")
    # As many as fit into the limit of open files of whoever tests.
    passing = passing.replace("maxconn 100000", "maxconn 500")
    ending = without(passing, "frontend mqtts", "backend mqtts") + read("docs/cluster/haproxy-tls.cfg")
    with tempfile.TemporaryDirectory() as directory:
        identity = os.path.join(directory, "server.pem")
        with open(identity, "wb") as file:
            for name in ("server.pem", "server.key"):
                with open(certificate(name), "rb") as part:
                    shutil.copyfileobj(part, file)
        for text in (passing, ending.replace("/etc/haproxy/server.pem", identity)):
            with tempfile.NamedTemporaryFile("w", suffix=".cfg") as file:
                file.write(text)
                file.flush()
                expect_that("alert" not in succeed(["haproxy", "-c", "-f", file.name]).lower(), "HAProxy")
        nginx = os.path.join(ROOT, "docs/cluster/nginx.conf")
        succeed(alone("nginx", "-t", "-e", "stderr", "-g", f"pid {directory}/pid; error_log stderr;", "-c", nginx))


def suite():
    """All of it."""
    cases = Suite("cluster", transports=())
    cases.add("it runs as Compose runs it", as_compose_runs_the_cluster)
    cases.add("ten minutes, as the guide has them", ten_minutes)
    cases.add("three machines, as the guide has them", three_machines)
    cases.add("load balancers take what the guide has for them", load_balancers)
    return cases
