"""What a node tells of its commits."""

import urllib.request


def commits(node):
    """How many batches the node has kept, and the seconds that it took."""
    with urllib.request.urlopen(f"http://127.0.0.1:{node.http_port}/metrics") as answer:
        values = dict(line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if not line.startswith("#"))
    name = "mqtt_broker_store_commit_seconds"
    return int(values[f"{name}_count"]), float(values[f"{name}_sum"])
