"""What a cluster costs that does nothing, for each second."""

import time

from costs import Costs

LOADS = {"idle": "nothing, for each second"}


def measure(running, settings):
    before = Costs(running)
    time.sleep(max(settings.seconds, 5))
    after = Costs(running)
    return after.since(before, after.at - before.at)
