"""Faults that really happen: a process that leaks, hangs, exits or crashes; a database that another process has locked.

`DEMO_FAULT` names the one that is on, `DEMO_FAULT_AFTER` the seconds before it strikes; README.md has the rest.
"""

import atexit
import contextlib
import ctypes
import faulthandler
import http.server
import math
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time

KINDS = ("exception", "locked", "leak", "leak-child", "hang", "slow-upstream", "exit", "segv")

KIND = os.environ.get("DEMO_FAULT") or None
AFTER = float(os.environ.get("DEMO_FAULT_AFTER", 0))
MB_PER_S = float(os.environ.get("DEMO_FAULT_MB_PER_S", 20))
# A demo must not take the machine down where nothing enforces a cap.
MB_LIMIT = float(os.environ.get("DEMO_FAULT_MB_LIMIT", 1024))
EXIT = int(os.environ.get("DEMO_FAULT_EXIT", 1))
DEAF = os.environ.get("DEMO_FAULT_DEAF", "0") == "1"

if KIND is not None and KIND not in KINDS:
    sys.exit(f"DEMO_FAULT={KIND}: no such fault; there are {', '.join(KINDS)}")

_began = time.monotonic()


def due(kind=None):
    """Is this fault (or any) on, and its time come?"""
    return KIND is not None and kind in (None, KIND) and time.monotonic() - _began >= AFTER


def left():
    """Seconds before it strikes; infinite where nothing is to come."""
    seconds = _began + AFTER - time.monotonic()
    return seconds if KIND is not None and seconds > 0 else math.inf


def supply(source, broken):
    """What `source()` gives; with the fault `exception`, the broken input that the caller's own code then trips over."""
    return broken if due("exception") else source()


class Leak(threading.Thread):
    """Takes `rate()` MB a second, every page touched, up to MB_LIMIT; when `rate()` is 0, gives all back and ends."""

    def __init__(self, rate):
        super().__init__(name="leak", daemon=True)
        self.rate = rate

    def run(self):
        blocks, held, owed, then = [], 0, 0.0, time.monotonic()
        while (rate := self.rate()) > 0:
            time.sleep(0.05)
            now = time.monotonic()
            owed, then = owed + rate * (now - then) * 2**20, now
            take = int(min(owed, MB_LIMIT * 2**20) - held)
            if take >= 4096:
                # Not bytearray(take): calloc's pages cost nothing until they are written.
                blocks.append(b"\xa5" * take)
                held += take


def leak_in_child(rate=MB_PER_S):
    """A child process that leaks. It ends with an orderly end of ours; after a crash it stays, as a forgotten helper would."""
    command = [sys.executable, os.path.abspath(__file__), "leak", str(rate)]
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    atexit.register(child.kill)
    return child


@contextlib.contextmanager
def locked(database):
    """Another process holds an exclusive lock on the database meanwhile; it ends with us, however we end."""
    holder = subprocess.Popen(
        [sys.executable, os.path.abspath(__file__), "lock", str(database)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        if holder.stdout.readline() != b"locked\n":
            raise RuntimeError(f"could not lock {database}")
        yield
    finally:
        holder.stdin.close()
        holder.wait()
        holder.stdout.close()


def hang():
    """Alive, and never heard of again. With DEMO_FAULT_DEAF=1 only SIGKILL ends it."""
    if DEAF:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(3600)


def segv():
    """Reads address 0."""
    faulthandler.disable()
    ctypes.string_at(0)


class Upstream(http.server.ThreadingHTTPServer):
    """A service of somebody else, on a free port of 127.0.0.1, that takes `delay()` seconds to answer."""

    daemon_threads = True

    def __init__(self, delay):
        super().__init__(("127.0.0.1", 0), _UpstreamHandler)
        self.delay = delay
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, name="upstream", daemon=True).start()

    def handle_error(self, request, client_address):
        """A client that gave up is no news."""


class _UpstreamHandler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        time.sleep(self.server.delay())
        body = b'{"ok": true}\n'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *args):
        pass


def _child(job, argument):
    """The part of another process: `leak RATE` or `lock DATABASE`."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if job == "leak":
        Leak(lambda: float(argument)).start()
        hang()
    connection = sqlite3.connect(argument, timeout=30, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    print("locked", flush=True)
    sys.stdin.buffer.read()  # until the parent closes it or is gone


if __name__ == "__main__":
    _child(*sys.argv[1:])
