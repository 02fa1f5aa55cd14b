"""Watches over the data: how old each collector's records are, how many events there are, and whether the app is well."""

import contextlib
import time

import demolib
import faults

FEEDS = ("sar", "sar-bias", "dashboard")


def age(feed):
    try:
        return round(time.time() - demolib.path_of(feed).stat().st_mtime, 1)
    except FileNotFoundError:
        return None


def app():
    try:
        return demolib.call("/healthz")
    except demolib.no_answer as error:
        return {"status": str(error)}


def work():
    with contextlib.closing(demolib.database()) as connection:
        (events,) = connection.execute("SELECT count(*) FROM events").fetchone()
    health = faults.supply(app, None)
    demolib.append(
        "data-health",
        ages={feed: age(feed) for feed in FEEDS},
        events=events,
        app=health.get("status"),
    )


demolib.run("data-health-monitor", 5, work)
