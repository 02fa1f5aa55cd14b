"""Keeps the levels of support and resistance, second version, in sr-v2.json."""

import collections
import json

import demolib
import faults

prices = collections.deque(maxlen=600)


def levels(prices):
    """The price that nine of ten were above, the one that nine of ten were below, and the middle."""
    ranked = sorted(prices)
    return {
        "support": ranked[len(ranked) // 10],
        "middle": ranked[len(ranked) // 2],
        "resistance": ranked[len(ranked) * 9 // 10],
    }


def work():
    prices.append(demolib.price())
    found = levels(faults.supply(lambda: prices, ()))
    demolib.replace(demolib.DATA / "sr-v2.json", json.dumps({"at": demolib.now(), **found}) + "\n")


demolib.run("sr-v2-daemon", 1, work)
