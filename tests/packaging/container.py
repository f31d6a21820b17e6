"""The binary of the image, and what runs it as a container does, without an engine for containers."""

import contextlib
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "clients", "support"))

from harness import DEADLINE, Child, certificate, expect, expect_that  # noqa: E402

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

    def configure(self):
        """What docker/config has when docker/README.md has been followed."""
        self.copy(os.path.join(ROOT, "docker/config/broker.toml"), "/etc/broker/broker.toml", 0o644)
        for name in ("server.pem", "server.key", "ca.pem"):
            self.copy(certificate(name), f"/etc/broker/{name}")
        with tempfile.TemporaryDirectory() as directory:
            users = os.path.join(directory, "users")
            succeed([binary, "passwd", "add", users, "ann", "--stdin"], stdin="secret\n")
            self.copy(users, "/etc/broker/users")

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
