"""The shapes of load, and what is told of each."""

from costs import Costs
from parts import load
from parts.processes import Failure

# Where subscribers are, when publishers are on the first node: there, on the second one, or half of them each.
ONE, ACROSS, BOTH = "on one node", "across nodes", "on both nodes"

SHAPES = {
    "q0-across": ("p2p --pairs 50", ACROSS),
    "q1-across": ("p2p --pairs 50 --qos 1", ACROSS),
    "q2-across": ("p2p --pairs 50 --qos 2", ACROSS),
    "q1-across-kept": ("p2p --pairs 50 --qos 1 --persistent", ACROSS),
    "q2-across-kept": ("p2p --pairs 50 --qos 2 --persistent", ACROSS),
    "q0-one": ("p2p --pairs 50", ONE),
    "q1-one": ("p2p --pairs 50 --qos 1", ONE),
    "q1-one-kept": ("p2p --pairs 50 --qos 1 --persistent", ONE),
    "fanout-q0": ("fanout --subscribers 100", BOTH),
    "fanout-q1": ("fanout --subscribers 100 --qos 1", BOTH),
    "fanout-q1-kept": ("fanout --subscribers 100 --qos 1 --persistent", BOTH),
    "latency-q0": ("latency --pairs 10 --rate 100", ACROSS),
    "latency-q1": ("latency --pairs 10 --rate 100 --qos 1", ACROSS),
    "latency-q1-kept": ("latency --pairs 10 --rate 100 --qos 1 --persistent", ACROSS),
    "conn": ("conn --persistent --subscribe", ONE),
}


def can_run(peer, arguments):
    """What is to be compared with Aedes is QoS 0 and 1."""
    return peer.name.startswith("ours") or "--qos 2" not in arguments


def measure(running, arguments, where, settings):
    """One run."""
    ports = [node.port for node in running.nodes]
    further = {ONE: [], ACROSS: ports[1:], BOTH: ports}[where]
    command = [settings.load, "bench", *arguments.split(), "--port", str(ports[0])]
    if further:
        command += ["--subscriber-ports", ",".join(map(str, further))]
    return connects(running, command, settings) if arguments.startswith("conn") else flow(running, command, settings)


def flow(running, command, settings):
    command += ["--duration", str(settings.seconds), "--warmup", str(min(1.0, settings.seconds / 2))]
    figures, begun, ended = marked(running, command, settings)
    rate = figures["delivered_per_s"]
    if not rate:
        raise Failure("nothing was delivered")
    return {
        "messages/s": rate,
        "p50 ms": figures["latency_p50_us"] / 1000,
        "p99 ms": figures["latency_p99_us"] / 1000,
        **ended.since(begun, rate * (ended.at - begun.at)),
        "load us": figures["load_generator_CPU_per_message_us"],
        "lost": figures["messages_lost"],
        "repeated": figures["messages_duplicated"],
        "disordered": figures["messages_out_of_order"],
    }


def connects(running, command, settings):
    ours = running.peer.name.startswith("ours")
    clients = settings.clients if ours else min(settings.clients, settings.aedes_clients)
    figures, begun, ended = marked(running, [*command, "--clients", str(clients)], settings)
    rates = {"connects/s": figures["connects_per_s"], "subscribes/s": figures["subscriptions_per_s"]}
    return {"clients": clients, **rates, **ended.since(begun, clients)}


def marked(running, command, settings):
    """Figures, and the costs where what they tell began and ended."""
    costs = []
    figures = load.figures(command, settings.cores, patience=180, on_mark=lambda: costs.append(Costs(running)))
    return figures, costs[0], costs[1]
