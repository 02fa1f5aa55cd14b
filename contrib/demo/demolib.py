"""What the demo's programs share: where their data lies, and how a collector lives."""

import datetime
import http.client
import json
import math
import os
import pathlib
import random
import signal
import sqlite3
import sys
import time
import urllib.error
import urllib.request

import faults

HERE = pathlib.Path(__file__).resolve().parent
DATA = pathlib.Path(os.environ.get("DEMO_DATA") or HERE / "data").resolve()
DRIVE = DATA / "gdrive"
DATABASE = DATA / "events.db"

api = os.environ.get("DEMO_API", "http://127.0.0.1:5000")
# What a request raises while the app is away: refused, cut off, or late (stead holds its socket meanwhile).
no_answer = (OSError, http.client.HTTPException)
# Seconds that a request may take.
timeout = 5.0
# Seconds that a query waits for somebody else's lock.
patience = 5.0


def say(text):
    print(text, flush=True)


def now():
    return datetime.datetime.now().astimezone().isoformat(timespec="milliseconds")


def path_of(name):
    """Today's file of a collector's records."""
    return DATA / f"{name}-{datetime.date.today().isoformat()}.jsonl"


def append(name, /, **fields):
    """Appends one record, in one write: lines of several processes never mix."""
    line = json.dumps({"at": now(), **fields}) + "\n"
    file = os.open(path_of(name), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


def lines(name, last):
    """The last lines of today's records, oldest first."""
    try:
        with open(path_of(name), "rb") as file:
            start = max(0, file.seek(0, os.SEEK_END) - 200 * last)
            file.seek(start)
            whole = file.read().decode().splitlines()
    except FileNotFoundError:
        return []
    return whole[1 if start else 0 :][-last:]


def records(name, last):
    return [json.loads(line) for line in lines(name, last)]


def replace(path, text):
    """Writes a file that readers see whole, old or new."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.write_text(text)
    new.replace(path)


def database():
    """The app's SQLite database, with its table. In autocommit: whoever wants a transaction says BEGIN IMMEDIATE."""
    connection = sqlite3.connect(DATABASE, timeout=patience, isolation_level=None)
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'events'").fetchone():
        # One that upgrades a read lock instead may be told "database is locked" at once, without any patience.
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS events"
            " (id INTEGER PRIMARY KEY, at TEXT, source TEXT, kind TEXT, severity TEXT, note TEXT)"
        )
        connection.execute("COMMIT")
    # Demo data: not worth an fsync, and no lock is held while a slow disk makes one.
    connection.execute("PRAGMA synchronous = OFF")
    return connection


def call(path, body=None):
    """GET, or POST of a body, to the Flask app."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(api + path, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        return json.load(answer)


def report(source, kind, severity, note):
    """Tells the Flask app of an event; without it the event is only said."""
    try:
        call("/events", {"source": source, "kind": kind, "severity": severity, "note": note})
    except no_answer as error:
        say(f"{source}: {note} (not reported: {error})")
    else:
        say(f"{source}: {note}")


def price():
    """A market that needs no network: waves and noise, the same for all who look in the same second."""
    at = time.time()
    waves = 800 * math.sin(at / 600) + 250 * math.sin(at / 47) + 90 * math.sin(at / 7)
    return round(50_000 + waves + random.Random(int(at)).gauss(0, 25), 2)


class Stop(BaseException):
    """SIGINT or SIGTERM: no error, so no `except Exception` holds it up."""


def _stop(number, _frame):
    for other in (signal.SIGINT, signal.SIGTERM):
        signal.signal(other, signal.SIG_IGN)
    raise Stop(signal.Signals(number).name)


def run(name, interval, work):
    """Calls `work()` every `interval` seconds (DEMO_INTERVAL overrides it) until SIGINT or SIGTERM; then exits 0.

    A job has no interval and works once.
    """
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _stop)
        DATA.mkdir(parents=True, exist_ok=True)
        if interval is not None:
            interval = float(os.environ.get("DEMO_INTERVAL", interval))
            say(f"{name}: every {interval:g} s, data in {DATA}")
        at = time.monotonic()
        while True:
            work()
            if faults.due():
                _strike(name, work)
            if interval is None:
                return
            at = max(at + interval, time.monotonic())
            time.sleep(max(0.0, min(at - time.monotonic(), faults.left())))
    except Stop as stop:
        say(f"{name}: ends on {stop}")


def _strike(name, work):
    global api, no_answer, patience, timeout
    if faults.KIND == "exception":
        work()
    elif faults.KIND == "locked":
        patience = 0.2
        with faults.locked(DATABASE):
            work()
            database()
    elif faults.KIND == "slow-upstream":
        api, timeout = faults.Upstream(lambda: 30).url, 0.5
        no_answer = urllib.error.URLError  # the usual mistake: an answer that is late raises another error
        work()
        call("/healthz")
    elif faults.KIND == "exit":
        sys.exit(faults.EXIT)
    elif faults.KIND == "segv":
        faults.segv()
    elif faults.KIND == "hang":
        say(f"{name}: hangs")
        faults.hang()
    elif faults.KIND == "leak":
        faults.Leak(lambda: faults.MB_PER_S).start()
        say(f"{name}: leaks {faults.MB_PER_S:g} MB/s")
        faults.KIND = None
    elif faults.KIND == "leak-child":
        say(f"{name}: leaks {faults.MB_PER_S:g} MB/s in process {faults.leak_in_child().pid}")
        faults.KIND = None
