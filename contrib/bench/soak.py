"""Lets 200 apps crash, leak, write and be restarted and reloaded for an hour, kills the daemon every 10 s, and then compares what stead says
with what the apps themselves wrote down: records, exit codes and log lines. Samples the memory of keeper and daemon all the while.

    python3 contrib/bench/soak.py --stead target/release/stead
    python3 contrib/bench/soak.py --stead target/release/stead --minutes 5

Prints Markdown. Exit status 1 where anything differs, or memory grows by more than the goal.
"""

import argparse
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

KILL_EVERY = 10.0
LIMIT = 120.0
GROWTH_GOAL = 1.0  # MB/h
MB = 1_000_000

KIT = """
import os, signal, sys, time
NAME, RUN = os.environ['STEAD_NAME'], os.environ['STEAD_RUN']
def note(text):
    diary = os.open(NAME + '.diary', os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(diary, (text + '\\n').encode())
    os.close(diary)
told = []
signal.signal(signal.SIGTERM, lambda *_: told.append(1))
def end(code, lines=0):
    note(f'end {RUN} {lines} {code}')
    os._exit(code)
note(f'begin {RUN}')
"""

APPS = {
    # Ends by itself within a minute. A shell, for there are many of them.
    "crasher": """#!/bin/sh
echo "begin $STEAD_RUN" >> $STEAD_NAME.diary
echo "$STEAD_RUN hello"
sleep $(($$ % 55 + 5))
code=$(($$ % 200 + 1))
echo "$STEAD_RUN bye" >&2
echo "end $STEAD_RUN 0 $code" >> $STEAD_NAME.diary
exit $code
""",
    # Takes a megabyte at a time until it is asked to end.
    "leaker": """
from kit import *
held = []
while not told:
    held.append(b'x' * 1_000_000)
    time.sleep(0.3)
end(11)
""",
    # Numbered lines, each by one write.
    "writer": """
from kit import *
n = 0
while not told:
    n += 1
    os.write(1, f'{RUN} {n}\\n'.encode())
    time.sleep(0.1)
end(12, n)
""",
    # What clients restart and reload; the old one takes a moment to end.
    "server": """
from kit import *
n = 0
while not told:
    n += 1
    os.write(1, f'{RUN} {n}\\n'.encode())
    time.sleep(0.25)
time.sleep(0.2)
end(13, n)
""",
    "idler": "#!/bin/sh\necho \"begin $STEAD_RUN\" >> $STEAD_NAME.diary\nexec sleep 100000\n",
}

# Of ten apps. `timed` and `both` are writers.
SHARES = ["crasher"] * 5 + ["leaker", "writer", "server", "idler"]
FORMS = ["writer", "timed", "both"]


class Soak:
    def __init__(self, stead, folder, apps):
        self.stead, self.work = stead, Path(folder) / "work"
        self.work.mkdir()
        self.home = Path(folder) / "home"
        self.environment = {**os.environ, "STEAD_HOME": str(self.home), "NO_COLOR": "1"}
        (self.work / "kit.py").write_text(KIT)
        for name, text in APPS.items():
            path = self.work / (name + (".sh" if text.startswith("#!") else ".py"))
            path.write_text(text)
            path.chmod(0o755)
        self.entries = [self.entry(n) for n in range(apps)]
        self.over = threading.Event()
        self.faults, self.asked, self.kills, self.samples, self.back = [], Counter(), 0, [], []

    def entry(self, n):
        form = FORMS[n // 10 % 3] if n % 10 == 6 else None
        kind = SHARES[n % 10] if n % 10 < len(SHARES) else "server"
        script = "./" + (kind + (".sh" if APPS[kind].startswith("#!") else ".py"))
        entry = {"name": f"{form or kind}-{n}", "script": script, "kill_signal": "SIGTERM", "kill_timeout": "60s"}
        entry |= {"min_uptime": 100, "max_restarts": 100_000, "journal_keep": 100_000, "log_max_size": 0}
        if kind == "leaker":
            entry["max_memory_restart"] = "40M"
        if form == "timed":
            entry["time"] = True
        if form == "both":
            entry["log_file"] = f"{entry['name']}.both.log"
        return entry

    def names(self, *kinds):
        return [one["name"] for one in self.entries if one["name"].rsplit("-", 1)[0] in kinds]

    def run(self, *words):
        return subprocess.run([self.stead, *words], env=self.environment, cwd=self.work, capture_output=True, text=True)

    def view(self, *words):
        said = self.run(*words, "--json")
        if said.returncode:
            raise RuntimeError(f"stead {' '.join(words)}: {said.stderr}")
        return json.loads(said.stdout)

    def go(self, seconds):
        (self.work / "ecosystem.json").write_text(json.dumps({"apps": self.entries}))
        said = self.run("start", "ecosystem.json")
        if said.returncode:
            raise RuntimeError(said.stderr)
        self.keeper = self.view("ping")["keeper_pid"]
        self.untouched = {name: self.pid(name) for name in self.names("writer", "timed", "both", "idler")}
        clients = [threading.Thread(target=self.client) for _ in range(2)]
        for client in clients:
            client.start()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(min(KILL_EVERY, max(0.0, until - time.monotonic())))
            self.kill()
        self.over.set()
        for client in clients:
            client.join()
        self.restarted = {name: pid for name, pid in self.untouched.items() if self.pid(name) != pid}
        said = self.run("stop", "all")
        if said.returncode:
            self.faults.append(f"stop all: {said.stderr}")

    def pid(self, name):
        return self.view("describe", name)[0]["pid"]

    def kill(self):
        pong = self.view("ping")
        if pong["keeper_pid"] != self.keeper:
            self.faults.append("there is another keeper")
            self.keeper = pong["keeper_pid"]
        self.samples.append((time.monotonic(), memory(self.keeper), memory(pong["daemon_pid"]), len(os.listdir(f"/proc/{self.keeper}/fd"))))
        began = time.perf_counter()
        os.kill(pong["daemon_pid"], signal.SIGKILL)
        self.kills += 1
        while self.view("ping")["daemon_pid"] == pong["daemon_pid"]:
            pass
        self.back.append((time.perf_counter() - began) * 1000)

    def client(self):
        chance = random.Random(threading.get_ident())
        servers = self.names("server")
        while not self.over.wait(0.5):
            name = chance.choice(servers)
            verb = chance.choice(["restart", "reload", "stop", "list"])
            said = self.run(*([verb] if verb == "list" else [verb, name]))
            self.asked[verb] += 1
            unknown = verb in ("restart", "reload") and "outcome unknown" in said.stderr
            # Two clients at once: one may stop what the other restarts.
            crossed = "meanwhile" in said.stdout + said.stderr
            if said.returncode and not unknown and not crossed:
                self.faults.append(f"{verb} {name}: {said.stdout}{said.stderr}")
            if verb == "stop":
                said = self.run("start", name)
                if said.returncode and "meanwhile" not in said.stdout + said.stderr:
                    self.faults.append(f"start {name}: {said.stdout}{said.stderr}")

    def compare(self):
        self.runs = self.lines = 0
        for name, pid in self.restarted.items():
            self.faults.append(f"{name}: pid {pid} has ended")
        for one in self.entries:
            self.compare_app(one["name"])

    def compare_app(self, name):
        begun, ended = [], {}
        path = self.work / f"{name}.diary"
        for line in path.read_text().splitlines() if path.exists() else []:
            word, run, *rest = line.split()
            if word == "begin":
                if run in begun:
                    self.faults.append(f"{run} began twice")
                if begun and begun[-1] not in ended and not name.startswith(("server", "idler")):
                    self.faults.append(f"{run} began before {begun[-1]} had ended")
                begun.append(run)
            else:
                ended[run] = [int(one) for one in rest]
        why = self.view("why", name)
        records = {record["run"]: record for record in why["records"]}
        self.runs += len(records)
        if why["total"] != len(why["records"]) or len(records) != len(why["records"]):
            self.faults.append(f"{name}: {why['total']} counted, {len(why['records'])} records of {len(records)} runs")
        for n in range(1, len(records) + 1):
            if f"{name}#{n}" not in records:
                self.faults.append(f"{name}#{n}: no record")
        for run in begun:
            if run not in records:
                self.faults.append(f"{run} ran, and has no record")
        for run, record in records.items():
            if run in ended and record["signal"] is None:
                if record["exit_code"] != ended[run][1]:
                    self.faults.append(f"{run}: exit code {record['exit_code']}, its diary says {ended[run][1]}")
            # While no daemon lives a leak meets the kernel's limit.
            elif not record["planned"] and not (name.startswith("leaker") and record["cause"] == "oom-kill"):
                self.faults.append(f"{run}: {record['cause']}, and its diary does not know of it")
        kind = name.rsplit("-", 1)[0]
        log = self.home / "logs" / f"{name}.out.log"
        if kind == "crasher":
            said = Counter(log.read_text().splitlines())
            expected = Counter(f"{run} hello" for run in begun)
            # The last one was ended, maybe before it spoke.
            if said != expected and said != expected - Counter({f"{begun[-1]} hello": 1}):
                self.faults.append(f"{name}: lines differ: {(said - expected) + (expected - said)}")
            self.lines += said.total()
        elif kind in ("writer", "timed", "both", "server"):
            self.compare_lines(name, log, ended, kind == "timed")
            if kind == "both":
                self.compare_lines(name, self.work / f"{name}.both.log", ended, True)

    def compare_lines(self, name, log, ended, may_repeat):
        reached, repeats = {}, 0
        for line in log.read_text().splitlines():
            found = re.fullmatch(r"(?:\S+ )?(\S+#\d+) (\d+)", line)
            if not found:
                self.faults.append(f"{log.name}: {line!r}")
                continue
            run, n = found[1], int(found[2])
            far = reached.get(run, 0)
            if n > far + 1:
                self.faults.append(f"{log.name}: {run}: {n} after {far}")
            repeats += n <= far
            reached[run] = max(far, n)
            self.lines += 1
        if repeats and not may_repeat:
            self.faults.append(f"{log.name}: {repeats} lines are doubled")
        for run, (lines, _) in ended.items():
            if reached.get(run, 0) != lines:
                self.faults.append(f"{log.name}: {reached.get(run, 0)} lines of {run}, its diary says {lines}")


def memory(pid):
    """RSS and PSS in bytes."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return [int(re.search(rf"^{word}:\s+(\d+) kB", text, re.M)[1]) * 1024 for word in ("Rss", "Pss")]


def growth(samples, of):
    """MB an hour: Theil-Sen over what came after the first tenth."""
    rest = samples[len(samples) // 10:]
    slopes = [(of(b) - of(a)) / (b[0] - a[0]) for i, a in enumerate(rest) for b in rest[i + 1:]]
    return statistics.median(slopes) * 3600 / MB if slopes else 0.0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stead", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--apps", type=int, default=200)
    arguments = parser.parse_args()
    for name in [name for name in os.environ if name.startswith("STEAD_")]:
        del os.environ[name]
    with tempfile.TemporaryDirectory(prefix="stead-soak-") as folder:
        soak = Soak(arguments.stead.resolve(), folder, arguments.apps)
        try:
            soak.go(arguments.minutes * 60)
            soak.compare()
        finally:
            soak.over.set()
            soak.run("kill")
        grown = {
            "keeper RSS": growth(soak.samples, lambda one: one[1][0]),
            "keeper PSS": growth(soak.samples, lambda one: one[1][1]),
            "daemon RSS, 10 s after its begin": growth(soak.samples, lambda one: one[2][0]),
        }
        first, last = soak.samples[0], soak.samples[-1]
        print(f"{arguments.minutes:.0f} minutes, {arguments.apps} apps, {soak.kills} kills of the daemon; clients asked {dict(soak.asked)}.\n")
        print("| | | goal |\n|---|---:|---|")
        print(f"| runs that ended, each compared with its record | {soak.runs:,} | |")
        print(f"| lines of logs, each compared | {soak.lines:,} | |")
        print(f"| differences | {len(soak.faults)} | 0 |")
        print(f"| killed to answering again, median, ms | {statistics.median(soak.back):.0f} | |")
        print(f"| the same, worst, ms | {max(soak.back):.0f} | |")
        for what, rate in grown.items():
            print(f"| growth of {what}, MB/h | {rate:.2f} | ≤ {GROWTH_GOAL:.0f} |")
        for what, at in (("keeper RSS", lambda one: one[1][0]), ("keeper PSS", lambda one: one[1][1]), ("daemon RSS", lambda one: one[2][0])):
            print(f"| {what}, first and last, MB | {at(first) / MB:.2f}, {at(last) / MB:.2f} | |")
        print(f"| descriptors of the keeper, first and last | {first[3]}, {last[3]} | |")
        if soak.faults:
            print("\n" + "\n".join(f"- {fault.strip()}" for fault in soak.faults[:50]))
        sys.exit(bool(soak.faults) or any(rate > GROWTH_GOAL for rate in grown.values()))


main()
