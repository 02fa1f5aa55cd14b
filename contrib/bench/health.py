"""Measures what watching costs at 100 apps: CPU of a minute, `stead health`, `stead trend`, and the history after a crash of the daemon.

Prints Markdown. Called by run.sh --health; it needs no PM2.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

APPS = 100
MINUTE = 60.0
LIMIT = 120.0


class Stead:
    def __init__(self, program, home):
        self.program, self.environment = program, {**os.environ, "STEAD_HOME": str(home)}

    def run(self, *words):
        return subprocess.run([self.program, *words], env=self.environment, capture_output=True, text=True)

    def milliseconds(self, *words, times=20):
        def once():
            began = time.perf_counter()
            self.run(*words)
            return (time.perf_counter() - began) * 1000

        return statistics.median(once() for _ in range(times))

    def daemon(self):
        return json.loads(self.run("ping", "--json").stdout)["daemon_pid"]


def cpu_ms(pid):
    """Of all threads, to the nanosecond where the kernel counts it so."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e6


def histories(pid):
    """Open history files of a process."""

    def links():
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            try:
                yield os.readlink(entry)
            except OSError:
                pass

    return sum(link.endswith(".history") for link in links())


def wait_for(what, condition):
    until = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(f"not within {LIMIT:.0f} s: {what}")
        time.sleep(0.001)
    return time.perf_counter()


def measure(program):
    with tempfile.TemporaryDirectory(prefix="stead-health-") as folder:
        folder = Path(folder)
        stead = Stead(program, folder / "home")
        apps = [
            {"name": f"app-{n}", "script": "sleep", "args": "100000", "max_memory_restart": "100M"} for n in range(APPS)
        ]
        ecosystem = {"notify": [{"command": "true", "on": "health"}], "apps": apps}
        (folder / "ecosystem.json").write_text(json.dumps(ecosystem))
        try:
            began = stead.run("start", str(folder / "ecosystem.json"))
            if began.returncode:
                raise RuntimeError(began.stderr)
            pid = stead.daemon()
            wait_for("all have a history", lambda: histories(pid) == APPS)
            time.sleep(5)
            before = cpu_ms(pid)
            time.sleep(MINUTE)
            minute = cpu_ms(pid) - before
            health, trend = stead.milliseconds("health"), stead.milliseconds("trend", times=5)
            os.kill(pid, 9)
            wait_for("another daemon", lambda: (found := stead.daemon()) and found != pid)
            pid = stead.daemon()
            first = wait_for("the first history is open", lambda: histories(pid) > 0)
            reopened = (wait_for("all are", lambda: histories(pid) == APPS) - first) * 1000
        finally:
            stead.run("kill")
    return [
        ("CPU of the daemon in a minute: sampling, history, verdicts, ms", 200, minute),
        ("`stead health`, command start to end, ms", 50, health),
        ("`stead trend` of all, ms", None, trend),
        ("after a SIGKILL of the daemon, all histories open again, ms", 100, reopened),
    ]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--stead", required=True)
    parser.add_argument("--tools")
    arguments = parser.parse_args()
    print(f"### What watching costs at {APPS} apps\n\n| | goal | measured |\n|---|---:|---:|")
    for what, goal, value in measure(os.path.abspath(arguments.stead)):
        print(f"| {what} | {f'≤ {goal}' if goal else '–'} | {value:.3g} |")


if __name__ == "__main__":
    main()
