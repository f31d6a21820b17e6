"""What packages are made of, without an engine for containers: the image's binary, Dockerfile, Compose file and unit.

The binary is built as docker/Dockerfile does, from the files that docker/Dockerfile.dockerignore lets through, and runs
in an empty directory that it can't leave.
"""

import contextlib
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "clients", "support"))

from harness import DEADLINE, Child, Suite, certificate, expect, expect_that, main  # noqa: E402

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
CACHE = os.path.join(ROOT, "tests", ".cache")
CONTEXT = os.path.join(CACHE, "context")
# What the image calls it.
PROGRAM = "/usr/local/bin/broker"
USER = 10001
IS_ROOT = os.geteuid() == 0
BUILD_DEADLINE = 800.0


def read(path):
    """A file of the project."""
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


def run(command, deadline=DEADLINE, env=None, cwd=None, stdin=""):
    """Runs a program to its end: its exit code, and all that it said."""
    done = subprocess.run(
        command, input=stdin, timeout=deadline, env=env, cwd=cwd, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )
    return done.returncode, done.stdout


def succeed(command, **options):
    """Runs a program that must succeed: what it said."""
    code, said = run(command, **options)
    expect_that(code == 0, f"{command}: exit code {code}: {said}")
    return said


# --- The image's binary ----------------------------------------------------------------------------------------------


def is_in_context(path, rules):
    """Whether the rules of a .dockerignore let the file through: the last that matches decides."""
    included = True
    for rule in rules:
        pattern = rule.lstrip("!")
        if pattern.startswith("**/"):
            matches = pattern[3:] in path.split("/")
        else:
            matches = pattern == "*" or path == pattern or path.startswith(pattern + "/")
        if matches:
            included = rule.startswith("!")
    return included


def make_context():
    """The files that an engine would send to the build. Those that are the same stay, so that cargo builds nothing twice."""
    rules = read("docker/Dockerfile.dockerignore").split()
    files = succeed(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT).splitlines()
    wanted = [path for path in files if is_in_context(path, rules) and os.path.exists(os.path.join(ROOT, path))]
    expect_that(len(wanted) > 100, f"{len(wanted)} files for the build")
    for directory, _, names in os.walk(CONTEXT):
        for name in names:
            path = os.path.join(directory, name)
            if os.path.relpath(path, CONTEXT) not in wanted:
                os.remove(path)
    for path in wanted:
        source, copy = os.path.join(ROOT, path), os.path.join(CONTEXT, path)
        os.makedirs(os.path.dirname(copy), exist_ok=True)
        if not os.path.exists(copy) or open(source, "rb").read() != open(copy, "rb").read():
            shutil.copyfile(source, copy)


def build():
    """The path of the binary. In debug mode, which takes a quarter of the time."""
    dockerfile = read("docker/Dockerfile")
    flags = re.search(r'^ENV RUSTFLAGS="(.+)"$', dockerfile, re.MULTILINE)[1]
    command = re.search(r"cargo build --release (--locked --bin broker) --target", dockerfile)[1].split()
    target = f"{os.uname().machine}-unknown-linux-gnu"
    succeed(
        ["cargo", "build", "--quiet", *command, "--target", target, "--target-dir", os.path.join(CACHE, "static")],
        deadline=BUILD_DEADLINE, env={**os.environ, "RUSTFLAGS": flags, "CARGO_PROFILE_DEV_DEBUG": "false"}, cwd=CONTEXT,
    )
    return os.path.join(CACHE, "static", target, "debug", "broker")


def needs_a_loader(path):
    """Whether the program names a dynamic loader (a program header of type PT_INTERP)."""
    with open(path, "rb") as file:
        elf = file.read(64 * 1024)
    expect(elf[:5], b"\x7fELF\x02", "a 64-bit program")
    offset, = struct.unpack_from("<Q", elf, 32)
    size, count = struct.unpack_from("<HH", elf, 54)
    return any(struct.unpack_from("<I", elf, offset + index * size)[0] == 3 for index in range(count))


binary = None


def static_binary():
    """It is built from what the engine would get, and needs no library."""
    global binary
    make_context()
    path = build()
    expect_that(not needs_a_loader(path), f"{path} is not static")
    binary = path


# --- Running it as a container does ----------------------------------------------------------------------------------


class Image:
    """A directory with nothing in it but the binary and what a case puts beside it."""

    def __init__(self):
        expect_that(binary, "there is no binary")
        self.path = tempfile.mkdtemp(prefix="broker-image-")
        os.chmod(self.path, 0o755)
        self.write("etc/hosts", "127.0.0.1 localhost broker.test\n")
        self.copy(binary, PROGRAM, 0o755)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.path)

    def _inside(self, name):
        path = os.path.join(self.path, name.lstrip("/"))
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        return path

    def write(self, name, text):
        """Puts a file into it."""
        with open(self._inside(name), "w", encoding="utf-8") as file:
            file.write(text)

    def copy(self, source, name, mode=0o600):
        """Copies a file into it, for the user of the container."""
        path = self._inside(name)
        shutil.copyfile(source, path)
        os.chmod(path, mode)
        if IS_ROOT:
            os.chown(path, USER, USER)

    def directory(self, name):
        """Makes a directory in it, for the user of the container."""
        path = self._inside(name)
        os.mkdir(path, 0o700)
        if IS_ROOT:
            os.chown(path, USER, USER)

    def command(self, *arguments):
        """What runs the binary in it. Without the rights of root it is a user of a namespace of its own."""
        if IS_ROOT:
            return ["chroot", f"--userspec={USER}:{USER}", self.path, PROGRAM, *arguments]
        return ["unshare", "--user", "--map-root-user", "chroot", self.path, PROGRAM, *arguments]

    def run(self, *arguments, env=None, stdin=""):
        """Runs the binary to its end."""
        return run(self.command(*arguments), env={"PATH": os.environ["PATH"], **(env or {})}, stdin=stdin)

    @contextlib.contextmanager
    def broker(self, *arguments, env=None):
        """A broker that runs in it, and where it listens."""
        environment = {"PATH": os.environ["PATH"], **(env or {})}
        with Child(self.command(*arguments), env=environment, stderr=subprocess.DEVNULL) as child:
            line = child.lines.next()
            expect_that(line and line.startswith("listening on "), f"it says {line!r}")
            yield child, line.removeprefix("listening on ")


def free_port():
    """A port that nobody has now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


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
        image.copy(os.path.join(ROOT, "docker/config/broker.toml"), config, 0o644)
        for name in ("server.pem", "server.key", "ca.pem"):
            image.copy(certificate(name), f"/etc/broker/{name}")
        with tempfile.TemporaryDirectory() as directory:
            users = os.path.join(directory, "users")
            succeed([binary, "passwd", "add", users, "ann", "--stdin"], stdin="secret\n")
            image.copy(users, "/etc/broker/users")
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


def compose_file():
    """docker-compose reads it, which checks it by the schema."""
    said = succeed(["docker-compose", "-f", "docker/compose.yaml", "config"], cwd=ROOT, deadline=60)
    expect_that("BROKER_CONFIG" in said, said)
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(read("docker/compose.yaml").replace("read_only: true", "read_only: [1]"))
        file.flush()
        code, said = run(["docker-compose", "-f", file.name, "config"], deadline=60)
        expect_that(code != 0 and "read_only" in said, f"a wrong file is taken: {said}")


@contextlib.contextmanager
def unit():
    """The unit, with a binary that is there."""
    text = read("docs/systemd/broker.service")
    expect_that(f"ExecStart={PROGRAM} " in text, "the unit starts something else")
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "broker.service")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text.replace(PROGRAM, os.environ["BROKER_BIN"]))
        yield path


def unit_is_right():
    """systemd-analyze verify finds nothing."""
    with unit() as path:
        expect(succeed(["systemd-analyze", "verify", "--man=no", path], deadline=60), "", "systemd-analyze")


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
    files.add("compose.yaml", compose_file)
    files.add("broker.service is right", unit_is_right)
    files.add("broker.service is hardened", unit_is_hardened)
    files.add("completions", completions)
    yield files


if __name__ == "__main__":
    main(list(suites()))
