"""Starting programs on cores of their own, ending them, and what they cost."""

import contextlib
import os
import pathlib
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CACHE = ROOT / "benches" / ".cache"


class Failure(Exception):
    """A measurement without figures, with the reason in one line."""


def start(command, cores, **options):
    """A child on these cores; all of its threads inherit them."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BROKER_")}
    return subprocess.Popen(
        command,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        # Not in our group: Ctrl-C is ours to handle, and ends it below.
        start_new_session=True,
        **options,
    )


def end(process, with_kill=False, patience=120):
    if process.poll() is None:
        process.kill() if with_kill else process.terminate()
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe:
            pipe.close()


def rss(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS:"))


def cpu(pid):
    """Seconds that the threads which a process has now have run, in the kernel too."""
    total = 0
    for thread in pathlib.Path(f"/proc/{pid}/task").iterdir():
        # One that has ended meanwhile has no file any more.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            total += int((thread / "schedstat").read_text(encoding="ascii").split()[0])
    return total / 1e9


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(process, port, patience=300):
    """Until it listens."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise Failure(f"does not start (exit code {process.returncode})")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return port
        time.sleep(0.005)
    raise Failure(f"does not listen within {patience} s")


def announced_port(process):
    """Where our broker says that it listens."""
    line = process.stdout.readline()
    if ":" not in line:
        raise Failure("does not start")
    return int(line.rsplit(":", 1)[1].split("/")[0])


def which(name, *further):
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *further]))


def output(command):
    """The first line that a program prints."""
    lines = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    return lines[0].strip() if lines else None


def numbers(text):
    return {int(number) for number in text.split(",")}


def check_cores(cores, hint=""):
    if unknown := cores - os.sched_getaffinity(0):
        sys.exit(f"this machine has no core {min(unknown)} for us{hint}")


def check_programs(*paths):
    for path in paths:
        if not os.access(path, os.X_OK):
            sys.exit(f"{path} is not there: cargo build --release")


def prepare():
    """Signals end the children as Ctrl-C does; and there may be as many connections as the system allows."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def present(peers):
    """Those that can run; of the others it is said what is missing."""
    for peer in peers:
        if peer.missing:
            print(peer.missing, file=sys.stderr)
    return [peer for peer in peers if not peer.missing]
