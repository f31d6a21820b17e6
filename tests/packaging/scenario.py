"""What packages are made of, without an engine for containers: the image's binary, Dockerfile, Compose files, units,
manifests, and the configurations and commands of the documents.

The binary is built as docker/Dockerfile does, from the files that docker/Dockerfile.dockerignore lets through, and runs
in an empty directory that it can't leave.
"""

import contextlib
import os
import re
import shutil
import socket
import struct
import sys
import tempfile
import threading

# First: it says where the others find what all scenarios share.
from container import IS_ROOT, PROGRAM, ROOT, USER, Image, free_port, read, run, static_binary, succeed

import cluster
import kubernetes

from harness import Suite, expect, expect_that, main


# --- Running it as a container does ----------------------------------------------------------------------------------


def another_user_in_an_empty_directory():
    """It starts with nothing else, as the user of the image; the health check is in it; SIGTERM ends it."""
    port = str(free_port())
    env = {"BROKER_HOST": "127.0.0.1", "BROKER_PORT": port}
    with Image() as image:
        expect(image.run("healthcheck", env=env)[0], 1, "exit code before it runs")
        with image.broker(env=env) as (child, url):
            expect(url, f"mqtt://127.0.0.1:{port}", "where it listens")
            process = f"/proc/{child.process.pid}"
            expect(os.readlink(f"{process}/root"), image.path, "its root")
            if IS_ROOT:
                with open(f"{process}/status", encoding="ascii") as status:
                    users = [line.split()[1:] for line in status if line.startswith(("Uid:", "Gid:"))]
                expect(users, [[str(USER)] * 4] * 2, "its user and group")
            with open(f"{process}/maps", encoding="ascii") as maps:
                files = {line.split()[5] for line in maps if len(line.split()) > 5 and "/" in line}
            expect(files, {image.path + PROGRAM}, "the files in its memory")
            expect(image.run("healthcheck", env=env), (0, f"mqtt://127.0.0.1:{port} answers\n"), "health")
            expect(child.terminate(), 0, "exit code after SIGTERM")
        code, said = image.run("healthcheck", env=env)
        expect_that(code == 1 and "Connection refused" in said, f"{code}: {said}")


def names_from_a_file():
    """--host may be a name of /etc/hosts, with no library to look it up."""
    with Image() as image:
        with image.broker("--host", "broker.test", "--port", "0") as (child, url):
            expect_that(re.fullmatch(r"mqtt://127\.0\.0\.1:\d+", url), f"it listens on {url}")
            port = url.rsplit(":", 1)[1]
            code, said = image.run("healthcheck", "--host", "broker.test", "--port", port)
            expect((code, said), (0, f"mqtt://broker.test:{port} answers\n"), "health")
            expect(child.terminate(), 0, "exit code after SIGTERM")
        code, said = image.run("--host", "other.test", "--port", "0")
        expect_that(code == 1 and "--host other.test" in said, f"{code}: {said}")


class NameServer:
    """Answers that node.broker.test is 127.0.0.1, and that there is nothing else."""

    def __init__(self):
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        # The port can't be chosen in resolv.conf, the address can.
        self._socket.bind(("127.0.0.77", 53))
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                query, peer = self._socket.recvfrom(512)
                if not query:
                    return
                end = query.index(b"\0", 12) + 5
                question = query[12:end]
                is_known = question[:-4] == b"\x04node\x06broker\x04test\0"
                record = b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x7f\0\0\x01"
                answer = record if is_known and question[-4:-2] == b"\0\x01" else b""
                flags = b"\x81\x80" if is_known else b"\x81\x83"
                counts = struct.pack(">HHHH", 1, 1 if answer else 0, 0, 0)
                self._socket.sendto(query[:2] + flags + counts + question + answer, peer)


def names_from_dns():
    """A name that only a name server knows."""
    with Image() as image, NameServer():
        image.write("etc/resolv.conf", "nameserver 127.0.0.77\noptions timeout:2 attempts:1\n")
        with image.broker("--host", "127.0.0.1", "--port", "0") as (child, url):
            port = url.rsplit(":", 1)[1]
            code, said = image.run("healthcheck", "--host", "node.broker.test", "--port", port)
            expect((code, said), (0, f"mqtt://node.broker.test:{port} answers\n"), "health")
            code, said = image.run("healthcheck", "--host", "nobody.broker.test", "--port", port)
            expect_that(code == 1 and "nobody.broker.test" in said, f"{code}: {said}")
            expect(child.terminate(), 0, "exit code after SIGTERM")


def as_compose_runs_it():
    """With the environment and the mounts of docker/compose.yaml: TLS, passwords, the health check, data that stays."""
    compose = read("docker/compose.yaml")
    config = re.search(r"BROKER_CONFIG: (\S+)", compose)[1]
    expect(re.search(r"- (\S+):(\S+):ro", compose).groups(), ("./config", os.path.dirname(config)), "what is mounted")
    data = re.search(r"BROKER_DATA_DIR: (\S+)", compose)[1]
    expect_that(f"- data:{data}\n" in compose, "the data is in no volume")
    port = str(free_port())
    # The port and the interface are not those of a container.
    env = {"BROKER_CONFIG": config, "BROKER_DATA_DIR": data, "BROKER_HOST": "127.0.0.1", "BROKER_TLS_PORT": port}
    with Image() as image:
        image.directory(data)
        image.configure()
        expect(image.run("config", "check", config, env=env), (0, ""), "the file")
        with image.broker(env=env) as (child, url):
            expect(url, f"mqtts://127.0.0.1:{port}", "where it listens")
            expect(image.run("healthcheck", env=env), (0, f"{url} answers\n"), "health")
            client = ["-L", url, "--cafile", "/etc/broker/ca.pem", "-q", "1", "-t", "house/door"]
            known = [*client, "-u", "ann", "-P", "secret"]
            expect(image.run("pub", *known, "-m", "open", "-r"), (0, ""), "publishing")
            expect(image.run("sub", *known, "-C", "1"), (0, "open\n"), "subscribing")
            expect(image.run("pub", *client, "-m", "open")[0], 5, "exit code without a password")
            code, said = image.run("store", "check", env=env)
            expect_that(code == 2 and "in use" in said, f"a check while it runs: {code}: {said}")
            expect(child.terminate(), 0, "exit code after SIGTERM")
        code, said = image.run("store", "check", env=env)
        expect_that(code == 0 and "1 retained" in said, f"a check of the data: {code}: {said}")
        with image.broker(env=env) as (child, url):
            expect(image.run("sub", *known, "-C", "1"), (0, "open\n"), "subscribing after a restart")
            expect(child.terminate(), 0, "exit code after SIGTERM")


# --- The files around it ---------------------------------------------------------------------------------------------


def dockerfile():
    """hadolint finds nothing."""
    program = os.path.join(os.path.dirname(sys.executable), "hadolint")
    expect(succeed([program, "docker/Dockerfile"], cwd=ROOT), "", "hadolint")
    check = re.search(r'^HEALTHCHECK .* CMD \["(\S+)", "healthcheck"\]$', read("docker/Dockerfile"), re.MULTILINE)
    expect(check[1], PROGRAM, "the program of the health check")


def compose_file(name):
    """docker-compose reads it, which checks it by the schema."""

    def case():
        said = succeed(["docker-compose", "-f", name, "config"], cwd=ROOT, deadline=60)
        expect_that("BROKER_CONFIG" in said, said)
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write(read(name).replace("read_only: true", "read_only: [1]"))
            file.flush()
            code, said = run(["docker-compose", "-f", file.name, "config"], deadline=60)
            expect_that(code != 0 and "read_only" in said, f"a wrong file is taken: {said}")

    return case


@contextlib.contextmanager
def unit(*further):
    """The unit, with a binary that is there, and what is put beside it."""
    text = read("docs/systemd/broker.service")
    expect_that(f"ExecStart={PROGRAM} " in text, "the unit starts something else")
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "broker.service")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text.replace(PROGRAM, os.environ["BROKER_BIN"]))
        for name in further:
            os.mkdir(f"{path}.d")
            shutil.copy(os.path.join(ROOT, "docs/systemd/broker.service.d", name), f"{path}.d")
        yield path


def verify(path):
    """What systemd-analyze has to say."""
    return succeed(["systemd-analyze", "verify", "--man=no", path], deadline=60)


def unit_is_right():
    """systemd-analyze verify finds nothing, with and without what a node of a cluster has besides."""
    with unit() as path:
        expect(verify(path), "", "systemd-analyze")
    with unit("cluster.conf") as path:
        expect(verify(path), "", "systemd-analyze")
        with open(f"{path}.d/cluster.conf", "a", encoding="utf-8") as file:
            file.write("RestartSecs=2\n")
        expect_that("RestartSecs" in verify(path), "what is beside the unit is not read")


def unit_is_hardened():
    """systemd-analyze security gives it less than 2.0, where 10 is no protection at all."""
    with unit() as path:
        command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", path]
        succeed(command, deadline=60)


def completions():
    """bash can read its completions, and they complete."""
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "broker.bash")
        with open(path, "w", encoding="utf-8") as file:
            file.write(succeed([os.environ["BROKER_BIN"], "completions", "bash"]))
        script = 'source "$1"; COMP_WORDS=(broker hea); COMP_CWORD=1; _broker broker hea broker; echo "${COMPREPLY[*]}"'
        expect(succeed(["bash", "-c", script, "bash", path]).strip(), "healthcheck", "completions of `hea`")


def suites():
    image = Suite("image", transports=())
    image.add("the static binary builds from what the engine gets", static_binary)
    image.add("it runs as another user in an empty directory", another_user_in_an_empty_directory)
    image.add("it finds names in /etc/hosts", names_from_a_file)
    if IS_ROOT:
        image.add("it finds names by DNS", names_from_dns)
    else:
        print("Not tried: names by DNS, which needs root for port 53")
    image.add("it runs as Compose runs it", as_compose_runs_it)
    yield image
    files = Suite("files", transports=())
    files.add("Dockerfile", dockerfile)
    for name in ("docker/compose.yaml", "docker/compose.cluster.yaml"):
        files.add(name, compose_file(name))
    files.add("broker.service is right", unit_is_right)
    files.add("broker.service is hardened", unit_is_hardened)
    files.add("completions", completions)
    yield files
    yield cluster.suite()
    yield kubernetes.suite()


if __name__ == "__main__":
    main(list(suites()))
