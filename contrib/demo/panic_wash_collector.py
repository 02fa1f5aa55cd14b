"""Looks for panic washes: the price falls hard, and half of it is back within the window."""

import collections

import demolib
import faults

FALL = 120.0

prices = collections.deque(maxlen=60)


def wash():
    """The depth of a wash in the window, if there is one."""
    low = min(prices)
    before = max(list(prices)[: prices.index(low) + 1])
    depth = before - low
    return depth if depth >= FALL and prices[-1] - low >= depth / 2 else None


def work():
    prices.append(float(faults.supply(demolib.price, "n/a")))
    depth = wash()
    if depth is not None:
        demolib.append("panic-wash", depth=round(depth, 2), low=min(prices))
        demolib.report("panic-wash-collector", "panic-wash", "major", f"fell by {depth:.0f} and came back")
        prices.clear()


demolib.run("panic-wash-collector", 1, work)
