"""What a message costs the processes of a cluster, between two moments of a run."""

import time

from parts.processes import cpu


class Costs:
    """As of now."""

    def __init__(self, running):
        self.at = time.monotonic()
        self.cpu = {name: cpu(process.pid) for name, process in running.processes().items()}
        self.calls = running.redis.calls() if running.redis else {}
        self.reads = int(running.redis.info(b"stats")["total_reads_processed"]) if running.redis else 0

    def since(self, before, count):
        """For each of `count` things."""
        each = {f"{name} us": (used - before.cpu[name]) * 1e6 / count for name, used in self.cpu.items()}
        if self.calls:
            each["commands"] = (self.made() - before.made()) / count
            each["scripts"] = (self.calls.get("evalsha", 0) - before.calls.get("evalsha", 0)) / count
            each["reads"] = (self.reads - before.reads) / count
        return each

    def made(self):
        """Commands but for those of the measuring itself."""
        return sum(calls for name, calls in self.calls.items() if name != "info")
