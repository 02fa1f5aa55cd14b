"""The demo's app: events in SQLite, over HTTP. `gunicorn --config gunicorn.conf.py flask_app:app` serves it."""

import contextlib
import json
import os
import pathlib
import urllib.request

import flask

import demolib
import faults
import flask_faults

# A request is not worth a longer wait for a lock.
demolib.patience = 0.5

app = flask.Flask("flask-app")
app.json.sort_keys = False
app.register_blueprint(flask_faults.blueprint)
app.before_request(flask_faults.hold_up)


def settings():
    return json.loads(faults.supply(lambda: '{"page": 50}', '{"page": '))


def prepare():
    """Makes the database before the workers begin; what fails here keeps the app from starting."""
    demolib.DATA.mkdir(parents=True, exist_ok=True)
    with faults.locked(demolib.DATABASE) if faults.due("locked") else contextlib.nullcontext():
        demolib.database().close()


page = settings()["page"]
prepare()


@app.get("/")
def index():
    return {
        "app": "flask-app",
        "pid": os.getpid(),
        "master": os.getppid(),
        "data": str(demolib.DATA),
        "endpoints": ["/healthz", "/memory", "/events", "/upstream", "/fault"],
    }


@app.get("/healthz")
def healthz():
    with contextlib.closing(demolib.database()) as connection:
        (events,) = connection.execute("SELECT count(*) FROM events").fetchone()
    return {"status": "ok", "events": events, "pid": os.getpid()}


@app.get("/events")
def list_events():
    """The newest first; `?severity=` and `?kind=` choose, `?limit=` says how many."""
    limit = flask.request.args.get("limit", page, type=int)
    wanted = [(key, flask.request.args[key]) for key in ("severity", "kind") if key in flask.request.args]
    where = "".join(f" AND {key} = ?" for key, _ in wanted)
    query = f"SELECT id, at, source, kind, severity, note FROM events WHERE 1{where} ORDER BY id DESC LIMIT ?"
    with contextlib.closing(demolib.database()) as connection:
        rows = connection.execute(query, [value for _, value in wanted] + [limit]).fetchall()
    if flask_faults.value("exception") is not None:
        rows.insert(0, None)
    return {"events": [event(row) for row in rows]}


def event(row):
    return dict(zip(("id", "at", "source", "kind", "severity", "note"), row))


@app.post("/events")
def add_event():
    body = flask.request.get_json()
    values = [demolib.now()] + [body.get(key) for key in ("source", "kind", "severity", "note")]
    with contextlib.closing(demolib.database()) as connection:
        insert = "INSERT INTO events (at, source, kind, severity, note) VALUES (?, ?, ?, ?, ?)"
        added = connection.execute(insert, values)
    return {"id": added.lastrowid}, 201


@app.get("/upstream")
def upstream():
    """Asks a service of somebody else, and waits a second for it."""
    with urllib.request.urlopen(flask_faults.upstream().url, timeout=1.0) as answer:
        return json.load(answer)


@app.get("/memory")
def memory():
    """What this worker and the whole tree of the app take, in bytes. RSS counts a shared page once for each process."""
    tree = [sizes(pid) for pid in descendants(os.getppid())]
    return {
        "worker": {"pid": os.getpid(), **sizes(os.getpid())},
        "tree": {
            "pid": os.getppid(),
            "processes": len(tree),
            "rss_bytes": sum(size["rss_bytes"] for size in tree),
            "pss_bytes": sum(size["pss_bytes"] for size in tree),
        },
    }


def sizes(pid):
    found = {"Rss": 0, "Pss": 0}
    with contextlib.suppress(OSError):  # it may have ended meanwhile
        for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
            key, _, rest = line.partition(":")
            if key in found:
                found[key] = int(rest.split()[0]) * 1024
    return {"rss_bytes": found["Rss"], "pss_bytes": found["Pss"]}


def descendants(root):
    """A process and all below it."""
    children = {}
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(path.parent.name))
    tree = [root]
    for pid in tree:
        tree += children.get(pid, [])
    return tree
