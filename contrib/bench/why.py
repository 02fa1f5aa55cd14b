"""Measures `stead why` over a long journal, what a record costs, and `list` in a storm of crashes. Prints Markdown.

    python3 contrib/bench/why.py --stead target/release/stead
"""

import argparse
import copy
import datetime
import json
import os
import re
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

RECORDS = 100_000
STORM_APPS = 20
STORM_SECONDS = 10
ROUNDS = 25

FAILS = """#!/usr/bin/env python3
def load(path):
    return {}["market"]
load("data.json")
"""


class Home:
    def __init__(self, stead, folder):
        self.stead, self.folder = stead, Path(folder)
        self.environment = {**os.environ, "STEAD_HOME": str(self.folder / "home"), "STEAD_LOG": "debug", "NO_COLOR": "1"}

    def run(self, *args):
        return subprocess.run([self.stead, *args], env=self.environment, cwd=self.folder, capture_output=True, text=True)

    def start(self, apps):
        (self.folder / "ecosystem.yaml").write_text(json.dumps({"apps": apps}))
        return self.run("start", "--no-wait", "ecosystem.yaml")

    def wait(self, what, condition):
        until = time.monotonic() + 60
        while not condition(json.loads(self.run("list", "--json").stdout or "[]")):
            if time.monotonic() > until:
                raise TimeoutError(what)
            time.sleep(0.05)

    def milliseconds(self, *args, rounds=ROUNDS):
        """Of a command, from its start to its end: median and worst."""
        times = []
        for _ in range(rounds):
            begun = time.perf_counter()
            said = self.run(*args)
            times.append((time.perf_counter() - begun) * 1000)
            assert said.returncode == 0, said
        return statistics.median(times), max(times)


def long_journal(path):
    """The journal of one end becomes one of RECORDS ends, of two causes, a second apart."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    start = next(line for line in lines if "start" in line["entry"])
    end = next(line for line in reversed(lines) if "end" in line["entry"])
    first = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=RECORDS)
    rows = {}
    with path.open("w") as file:
        for number in range(1, RECORDS + 1):
            at = (first + datetime.timedelta(seconds=number)).isoformat(timespec="milliseconds")
            line, before = copy.deepcopy(end), copy.deepcopy(start)
            record = line["entry"]["end"]["record"]
            record.update(run=f"long#{number}", ended_at=at)
            if number % 1000 == 0:
                record.update(cause="signal", signature=None, exit_code=None, signal="SIGKILL")
            row = rows.setdefault(
                (record["cause"], record["signature"]),
                {"cause": record["cause"], "signature": record["signature"], "count": 0, "first_at": at},
            )
            row.update(count=row["count"] + 1, last_at=at)
            for each in (before, line):
                each.update(run=number, seq=number)
            before["tally"] = line["tally"]
            line["tally"] = {**end["tally"], "total": number, "unplanned": number, "by_cause": list(rows.values())}
            for each in (before, line):
                file.write(json.dumps(each, separators=(",", ":")) + "\n")
    return path.stat().st_size


def measure_why(stead, folder):
    home = Home(stead, folder)
    script = home.folder / "fails.py"
    script.write_text(FAILS)
    script.chmod(0o755)
    app = {"name": "long", "script": "./fails.py", "autorestart": False, "journal_keep": 1_000_000}
    home.start([app])
    home.wait("an end", lambda apps: apps and apps[0]["last_exit"])
    home.run("kill")
    size = long_journal(home.folder / "home/journal/long.jsonl")
    begun = time.perf_counter()
    home.run("list")
    print(f"\n### `stead why` over {RECORDS:,} records, {size / 1e6:.0f} MB; command start to end\n")
    print("| | median, ms | worst, ms |\n|---|---:|---:|")
    print(f"| keeper's and daemon's start, the journal read through | {(time.perf_counter() - begun) * 1000:.0f} | |")
    for words in ("why long", "why long --last 100", "why long --cause signal", "why long --since 1h", "why long#50000"):
        median, worst = home.milliseconds(*words.split())
        print(f"| `stead {words}` | {median:.1f} | {worst:.1f} |")
    median, worst = home.milliseconds("why", "long", "--json", rounds=3)
    print(f"| `stead why long --json`: all {RECORDS:,} | {median:.0f} | {worst:.0f} |")


def measure_storm(stead, folder):
    home = Home(stead, folder)
    script = home.folder / "fails.sh"
    script.write_text("#!/bin/sh\necho 'cannot open the database' >&2\nsleep 0.09\nexit 1\n")
    script.chmod(0o755)
    names = [f"storm-{number}" for number in range(STORM_APPS)]
    home.start([{"name": name, "script": "./fails.sh", "min_uptime": 100, "max_restarts": 1_000_000} for name in names])
    home.wait("a storm", lambda apps: len(apps) == STORM_APPS and all(one["restarts"] > 3 for one in apps))
    count = lambda: sum(one["restarts"] for one in json.loads(home.run("list", "--json").stdout))
    begun, before = time.monotonic(), count()
    times = []
    while time.monotonic() - begun < STORM_SECONDS:
        times.append(home.milliseconds("list", rounds=1)[0])
        time.sleep(0.1)
    rate = (count() - before) / (time.monotonic() - begun)
    why, _ = home.milliseconds("why", names[0])
    ping, _ = home.milliseconds("ping")
    home.run("kill")
    log = "".join(path.read_text() for path in sorted((home.folder / "home").glob("stead.log*")))
    micros = sorted(int(found) for found in re.findall(r"journaled.*? micros=(\d+)", log))
    share = lambda part: micros[min(len(micros) - 1, int(len(micros) * part))]
    print(f"\n### {STORM_APPS} apps that crash at once, {rate:.0f} restarts a second\n")
    print("| | median | 99 of 100 | worst |\n|---|---:|---:|---:|")
    times.sort()
    print(f"| `stead list`, ms | {statistics.median(times):.1f} | {times[int(len(times) * 0.99)]:.1f} | {times[-1]:.1f} |")
    print(f"| `stead why {names[0]}`, ms | {why:.1f} | | |")
    print(f"| `stead ping`, ms: a command that asks for nothing | {ping:.1f} | | |")
    print(f"| a line of the journal in the loop, µs ({len(micros):,} lines) | {share(0.5)} | {share(0.99)} | {micros[-1]} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stead", required=True, type=os.path.abspath)
    arguments = parser.parse_args()
    for measure in (measure_storm, measure_why):
        with tempfile.TemporaryDirectory(prefix="stead-bench-") as folder:
            try:
                measure(arguments.stead, folder)
            finally:
                Home(arguments.stead, folder).run("kill")
