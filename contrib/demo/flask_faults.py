"""Faults of the app, switched while it runs: POST and DELETE /fault/KIND."""

import contextlib
import functools
import math
import mmap
import os
import signal
import threading
import time

import flask

import demolib
import faults

# What may be said about a fault, and its default.
PARAMETERS = {
    "exception": ("on", 1),
    "locked": ("seconds", 30.0),
    "leak": ("mb_per_s", faults.MB_PER_S),
    "leak-child": ("mb_per_s", faults.MB_PER_S),
    "hang": ("seconds", 3600.0),
    "slow-upstream": ("delay", 30.0),
    "exit": ("code", faults.EXIT),
    "segv": ("on", 1),
}

# One number for each fault, NaN where it is off, in memory that master and workers share: it is made before they fork.
_switches = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("d")
for _at in range(len(faults.KINDS)):
    _switches[_at] = math.nan

blueprint = flask.Blueprint("faults", __name__, url_prefix="/fault")


def value(kind):
    """The number of a fault that is on, else None."""
    number = _switches[faults.KINDS.index(kind)]
    return None if math.isnan(number) else number


def switch(kind, number):
    """None is off."""
    _switches[faults.KINDS.index(kind)] = math.nan if number is None else number


@blueprint.get("")
def list_faults():
    return {kind: value(kind) for kind in faults.KINDS}


@blueprint.post("/<kind>")
def switch_on(kind):
    """Parameters are in the query; `of=worker` aims `exit` and `segv` at the worker that answers, not at the master."""
    if kind not in faults.KINDS:
        return {"error": f"no such fault; there are {', '.join(faults.KINDS)}"}, 404
    name, default = PARAMETERS[kind]
    try:
        number = type(default)(flask.request.args.get(name, default))
    except ValueError:
        return {"error": f"{name} is a number"}, 400
    begin(kind, number, of=flask.request.args.get("of", "master"))
    return {"fault": kind, name: number, "pid": os.getpid(), "master": os.getppid()}


@blueprint.delete("/<kind>")
def switch_off(kind):
    if kind not in faults.KINDS:
        return {"error": f"no such fault; there are {', '.join(faults.KINDS)}"}, 404
    switch(kind, None)
    return {"fault": kind, "pid": os.getpid(), "master": os.getppid()}


def begin(kind, number, of="master"):
    was_on = value(kind) is not None
    if kind in ("exit", "segv"):
        return _end(kind, number, of)
    switch(kind, number)
    if was_on:
        return None
    undo = contextlib.ExitStack()
    if kind == "locked":
        undo.enter_context(faults.locked(demolib.DATABASE))
        _watch(kind, number, undo)
    elif kind == "leak":
        faults.Leak(lambda: value("leak") or 0).start()
    elif kind == "leak-child":
        child = undo.enter_context(faults.leak_in_child(number))
        undo.callback(child.kill)
        _watch(kind, math.inf, undo)
    elif kind == "hang":
        _watch(kind, number, undo)
    return None


def _watch(kind, seconds, undo):
    """Ends a fault when it is switched off, in whichever worker, or its time is over."""

    def watch():
        end = time.monotonic() + seconds
        while value(kind) is not None and time.monotonic() < end:
            time.sleep(0.05)
        switch(kind, None)
        undo.close()

    threading.Thread(target=watch, name=kind, daemon=True).start()


def _end(kind, code, of):
    """Ends master or worker, a moment later, so that the request is answered."""
    if kind == "exit":
        if of == "master":
            switch(kind, code)  # gunicorn.conf.py's child_exit sees it
        act = functools.partial(os._exit, code)
    elif of == "master":
        act = functools.partial(os.kill, os.getppid(), signal.SIGSEGV)
    else:
        act = faults.segv
    threading.Timer(0.1, act).start()


def begin_from_environment():
    """In the first worker. What is due at once has kept the app from starting, see flask_app.py."""
    if faults.KIND is not None:
        later = threading.Timer(max(0.0, faults.AFTER), begin, (faults.KIND, PARAMETERS[faults.KIND][1]))
        later.daemon = True
        later.start()


def hold_up():
    """Before each request but those to /fault: while the fault `hang` is on, nothing is answered."""
    while flask.request.blueprint != blueprint.name and value("hang") is not None:
        time.sleep(0.05)


@functools.cache
def upstream():
    """The service that /upstream asks; each worker has its own."""
    return faults.Upstream(lambda: value("slow-upstream") or 0)
