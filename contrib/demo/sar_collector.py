"""Follows the market's parabolic SAR (stop and reverse): one record a round."""

import demolib
import faults

STEP, MOST = 0.02, 0.2


class Sar:
    """Wilder's stop: it closes in on the price faster with each new extreme, and changes sides when they meet."""

    def __init__(self, price):
        self.side, self.stop, self.extreme, self.speed = "long", price, price, STEP

    def follow(self, price):
        beyond = price > self.extreme if self.side == "long" else price < self.extreme
        if beyond:
            self.extreme = price
            self.speed = min(self.speed + STEP, MOST)
        self.stop += self.speed * (self.extreme - self.stop)
        if (price < self.stop) == (self.side == "long"):
            self.side = "short" if self.side == "long" else "long"
            self.stop, self.extreme, self.speed = self.extreme, price, STEP


sar = Sar(demolib.price())


def work():
    price = faults.supply(demolib.price, None)
    sar.follow(price)
    demolib.append("sar", price=price, stop=round(sar.stop, 2), side=sar.side)


demolib.run("sar-collector", 2, work)
