"""Makes a timeline of signals: each change of side that sar-collector wrote, told to the Flask app as well."""

import json

import demolib
import faults

seen = None


def read():
    torn = ['{"at": "2026-01-01T00:00:00.000+00:00", "price": 50012.7, "si']
    return [json.loads(line) for line in faults.supply(lambda: demolib.lines("sar", last=2), torn)]


def work():
    global seen
    for record in read():
        if seen is not None and record["side"] != seen:
            demolib.append("signals", signal=record["side"], price=record["price"])
            note = f"turned {record['side']} at {record['price']}"
            demolib.report("signal-timeline-collector", "signal", "minor", note)
        seen = record["side"]


demolib.run("signal-timeline-collector", 2, work)
