"""Deletes records and events that are older than DEMO_KEEP_DAYS (7). A job: it works once and exits with 0."""

import contextlib
import datetime
import os

import demolib
import faults


def first_day_to_keep():
    days = int(faults.supply(lambda: os.environ.get("DEMO_KEEP_DAYS", "7"), "a week"))
    return (datetime.date.today() - datetime.timedelta(days)).isoformat()


def work():
    first = first_day_to_keep()
    old = [path for path in demolib.DATA.rglob("*-????-??-??.jsonl") if path.stem[-10:] < first]
    for path in old:
        path.unlink(missing_ok=True)
    with contextlib.closing(demolib.database()) as connection:
        events = connection.execute("DELETE FROM events WHERE at < ?", (first,)).rowcount
    demolib.say(f"nightly-cleanup: deleted {len(old)} files and {events} events from before {first}")


demolib.run("nightly-cleanup", None, work)
