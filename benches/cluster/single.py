"""What being a node of a cluster costs clients of which nothing is kept, and who are all on that node."""

from costs import Costs
from metrics import commits
from nodes import running
from parts import load

LOADS = {
    "single-q0": "p2p --pairs 50",
    "single-q1": "p2p --pairs 50 --qos 1",
    "single-q1-window1": "p2p --pairs 50 --qos 1 --window 1",
}


def measure(peer, arguments, settings):
    """The nodes have the first core, everybody else the last one."""
    broker_cores, others = {min(settings.cores)}, {max(settings.cores)}
    with running(peer, broker_cores, others) as run:
        node, seen = run.nodes[0], []

        def look():
            seen.append((Costs(run), commits(node) if run.redis else (0, 0)))

        command = [settings.load, "bench", *arguments.split(), "--port", str(node.port)]
        command += ["--duration", str(settings.seconds)]
        figures = load.figures(command, others, patience=180, on_mark=look)
        (before, kept_before), (after, kept_after) = seen
        count = figures["delivered_per_s"] * (after.at - before.at)
        found = {
            "messages/s": figures["delivered_per_s"],
            "p50 ms": figures["latency_p50_us"] / 1000,
            "load us": figures["load_generator_CPU_per_message_us"],
            **after.since(before, count),
        }
        kept = kept_after[0] - kept_before[0]
        if kept:
            found |= {"batches/s": kept / (after.at - before.at), "messages/batch": count / kept}
            found["ms/batch"] = (kept_after[1] - kept_before[1]) * 1000 / kept
        return found
