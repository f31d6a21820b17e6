"""Running `broker bench`."""

import json
import subprocess
import threading

from .processes import Failure, end, start


def generate(command, cores, patience=600, on_mark=None):
    """Exit code, what was printed, and the last error. `on_mark` is called when what is measured begins, and when it ends."""
    command = [*command, "--json", *(["--marks"] if on_mark else [])]
    generator = start(command, cores, stderr=subprocess.PIPE)
    watchdog = threading.Timer(patience, generator.kill)
    watchdog.start()
    errors = []
    try:
        for line in generator.stderr:
            if on_mark and line == "mark\n":
                on_mark()
            else:
                errors.append(line.strip())
        printed = generator.stdout.read()
        generator.wait()
    finally:
        watchdog.cancel()
        end(generator)
    if generator.returncode == -9:
        raise Failure(f"the run has not ended after {patience:g} s")
    reason = (errors or [f"exit code {generator.returncode}"])[-1]
    return generator.returncode, printed, reason.removeprefix("broker: ")


def figures(command, cores, **options):
    """What was measured. Messages that were lost or repeated are in there, too."""
    code, printed, reason = generate(command, cores, **options)
    if code and not printed.strip():
        raise Failure(reason)
    return json.loads(printed)
