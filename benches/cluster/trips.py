"""How often a node goes to Redis and back for each batch that it keeps."""

import functools

from metrics import commits
from nodes import running
from parts import load
from relay import relay

LOADS = {
    "trips-alone": "p2p --pairs 1 --window 1 --qos 1",
    "trips-alone-kept": "p2p --pairs 1 --window 1 --qos 1 --persistent",
    "trips-many": "p2p --pairs 50 --window 32 --qos 1",
    "trips-many-churn": "p2p --pairs 50 --window 32 --qos 1 --churn 200",
    "trips-many-kept": "p2p --pairs 50 --window 32 --qos 1 --persistent",
}


def measure(peer, arguments, settings):
    """Publishers are on the node that has the relay before its Redis, subscribers on the other one."""
    relays, seen = [], []
    with running(peer, settings.cores, settings.cores, functools.partial(relay, seen=relays)) as run:
        first, second = run.nodes
        command = [settings.load, "bench", *arguments.split(), "--port", str(first.port)]
        command += ["--subscriber-ports", str(second.port), "--duration", str(settings.seconds)]
        figures = load.figures(
            command, settings.cores, patience=180, on_mark=lambda: seen.append((*relays[0].seen(), commits(first)[0]))
        )
    trips, scripts, kept = (after - before for before, after in zip(*seen))
    return {
        "messages/s": figures["delivered_per_s"],
        "batches": kept,
        "trips": trips,
        "trips/batch": trips / kept,
        "scripts/batch": scripts / kept,
        "messages/batch": figures["delivered_per_s"] * settings.seconds / kept,
    }
