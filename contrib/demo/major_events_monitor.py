"""Asks the Flask app for major events, and keeps those it has not seen yet."""

import demolib
import faults

last = 0


def fetch():
    return demolib.call("/events?severity=major")["events"]


def work():
    global last
    try:
        events = faults.supply(fetch, [{"id": 10**9, "source": "panic-wash-collector"}])
    except demolib.no_answer as error:
        demolib.say(f"the app does not answer: {error}")
        return
    for event in reversed(events):
        if event["id"] > last:
            demolib.append("major-events", id=event["id"], source=event["source"], note=event["note"])
            last = event["id"]


demolib.run("major-events-monitor", 5, work)
