"""Sums up the events in the app's SQLite database for the dashboard, by kind."""

import contextlib

import demolib
import faults


class DashboardError(Exception):
    """The dashboard cannot be drawn."""


def counts():
    with contextlib.closing(demolib.database()) as connection:
        return dict(connection.execute("SELECT kind, count(*) FROM events GROUP BY kind"))


def row(by_kind):
    try:
        return {"events": sum(by_kind.values()), "kinds": {kind: by_kind[kind] for kind in sorted(by_kind)}}
    except TypeError as error:
        raise DashboardError(f"events of no kind among {len(by_kind)}") from error


def work():
    by_kind = faults.supply(counts, {"signal": 12, None: 3})
    demolib.append("dashboard", **row(by_kind))


demolib.run("dashboard-jsonl-manager", 5, work)
