"""Says how long the market has leaned to one side, from what sar-collector wrote."""

import demolib
import faults


def bias(records):
    long = sum(record["side"] == "long" for record in records)
    return round((2 * long - len(records)) / len(records), 3)


def work():
    records = demolib.records("sar", last=300)
    if records or faults.due("exception"):
        value = bias(faults.supply(lambda: records, []))
        demolib.append("sar-bias", bias=value, of=len(records))


demolib.run("sar-bias-stats-collector", 5, work)
