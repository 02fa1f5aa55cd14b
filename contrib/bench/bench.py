"""Measures stead beside PM2 and the floor: memory, starts, restarts, idling, `list` and logs, all in one run, in turns.

Prints Markdown. Absolute figures drift with the machine; the ratios of one run hold. Called by run.sh.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

SETTLE = 5.0  # seconds from the last app's start to a look at memory
LIMIT = 60.0  # seconds that anything is waited for
GB = 1_000_000_000


def now():
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def wait_for(what, condition, limit=LIMIT, pause=0.004):
    until = time.monotonic() + limit
    while not (found := condition()):
        if time.monotonic() > until:
            raise TimeoutError(f"not within {limit:.0f} s: {what}")
        time.sleep(pause)
    return found


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


class Diary:
    """What the apps wrote at their main(): who, pid, nanoseconds."""

    def __init__(self, path):
        self.path, self.offset, self.runs, self.ends, self.interrupts = path, 0, [], {}, []

    def read(self):
        if self.path.exists():
            with self.path.open() as file:
                file.seek(self.offset)
                text = file.read()
            whole = text[: text.rfind("\n") + 1]
            self.offset += len(whole)
            for line in whole.splitlines():
                app, pid, *numbers = line.split()
                if pid == "end":
                    self.ends[app] = [int(n) for n in numbers]
                elif pid == "int":
                    self.interrupts.append([int(n) for n in numbers])
                else:
                    self.runs.append((app, int(pid), int(numbers[0])))
        return self.runs

    def await_runs(self, n, starter=None):
        def there():
            if starter and starter.poll():
                raise RuntimeError(f"start failed with status {starter.returncode}")
            return len(self.read()) >= n

        wait_for(f"{n} runs in the diary", there)


class Peer:
    """A supervisor with a home of its own. `begin` starts it together with its apps."""

    def __init__(self, tools, work, **wishes):
        """`wishes`: what each app's entry says beside its command and its log files."""
        self.tools, self.work, self.wishes = tools, work, wishes
        self.logs = work / "logs"
        self.logs.mkdir(parents=True)
        self.diary = Diary(work / "diary")

    def begin(self, commands):
        self.prepare(commands)
        started = now()
        process = self.launch()
        self.diary.await_runs(len(commands), process)
        if process and process.wait(LIMIT) != 0:
            raise RuntimeError(f"start failed with status {process.returncode}")
        return (max(at for _, _, at in self.diary.runs) - started) / 1e6

    def command(self, *words):
        return subprocess.Popen(words, env=self.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def environment(self):
        return os.environ

    def landed(self):
        return sum(path.stat().st_size for path in self.logs.glob("*") if not path.name.endswith(".idx"))

    def end(self):
        """Ends the supervisor, then whatever of the apps it left."""
        try:
            self.stop()
        finally:
            for _, pid, _ in self.diary.read():
                if self.is_ours(pid):
                    os.kill(pid, signal.SIGKILL)
            # Deleted at the very end: ext4 without a journal is slow to make files where some have just been deleted.
            for path in self.logs.glob("*"):
                os.truncate(path, 0)

    def is_ours(self, pid):
        try:
            return str(self.diary.path).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False


class Floor(Peer):
    name = "floor"

    def prepare(self, commands):
        self.list = self.work / "list"
        self.list.write_text("".join(" ".join(words) + "\n" for words in commands))

    def launch(self):
        self.process = self.command(self.tools.floor, self.list, self.logs)

    def pids(self):
        return [self.process.pid]

    def stop(self):
        self.process.terminate()
        self.process.wait(LIMIT)


class Stead(Peer):
    name = "stead"

    def environment(self):
        return {**os.environ, "STEAD_HOME": str(self.work / "home")}

    def prepare(self, commands):
        def app(n, words):
            files = {"out_file": f"{self.logs}/{n}.out", "error_file": f"{self.logs}/{n}.err", "log_max_size": 0}
            return {"name": f"app-{n}", "script": words[0], "args": words[1:], "interpreter": "none", **files, **self.wishes}

        self.file = self.work / "ecosystem.json"
        self.file.write_text(json.dumps({"apps": [app(n, words) for n, words in enumerate(commands)]}))

    def launch(self):
        return self.command(self.tools.stead, "start", self.file)

    def pids(self):
        said = subprocess.run([self.tools.stead, "ping", "--json"], env=self.environment(), capture_output=True, check=True)
        pong = json.loads(said.stdout)
        return [pong["keeper_pid"], pong["daemon_pid"]]

    def list_command(self):
        return [self.tools.stead, "list"]

    def stop(self):
        self.command(self.tools.stead, "kill").wait(LIMIT)


class Pm2(Peer):
    name = "pm2"

    def environment(self):
        return {**os.environ, "PM2_HOME": str(self.work / "home"), "PM2_DISABLE_VERSION_CHECK": "true"}

    def prepare(self, commands):
        def app(n, words):
            files = {"out_file": f"{self.logs}/{n}.out", "error_file": f"{self.logs}/{n}.err", "merge_logs": True}
            return {"name": f"app-{n}", "script": words[0], "args": words[1:], "interpreter": "none", **files, **self.wishes}

        self.file = self.work / "ecosystem.json"
        self.file.write_text(json.dumps({"apps": [app(n, words) for n, words in enumerate(commands)]}))

    def launch(self):
        return self.command("node", self.tools.pm2, "start", self.file)

    def pids(self):
        return [int((self.work / "home/pm2.pid").read_text())]

    def list_command(self):
        return ["node", self.tools.pm2, "jlist"]

    def stop(self):
        self.command("node", self.tools.pm2, "kill").wait(LIMIT)


PEERS = [Floor, Stead, Pm2]


def pss(pids):
    """KiB, shared pages shared out."""
    return sum(
        int(line.split()[1])
        for pid in pids
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        if line.startswith("Pss:")
    )


def rss(pids):
    """KiB."""
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024 for pid in pids)


def threads(pids):
    return [task for pid in pids for task in Path(f"/proc/{pid}/task").iterdir()]


def cpu(pids):
    """Nanoseconds that the threads were on a processor; /proc/PID/stat counts only ticks of 10 ms."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in threads(pids))


def wakeups(pids):
    lines = (line for task in threads(pids) for line in (task / "status").read_text().splitlines())
    return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))


class Bench:
    def __init__(self, tools, quick):
        self.tools, self.quick = tools, quick
        self.work = Path(tempfile.mkdtemp(prefix="stead-bench-"))
        self.results = defaultdict(lambda: defaultdict(list))
        self.turn = 0

    def put(self, peer, metric, *values):
        self.results[metric][peer.name].extend(values)

    def get(self, metric, peer, of=statistics.median):
        values = self.results[metric][peer]
        return of(values) if values else None

    def run(self, peer, apps, extra, scenario):
        self.turn += 1
        work = self.work / f"{self.turn}-{peer.name}"
        one = peer(self.tools, work)
        print(f"{time.strftime('%H:%M:%S')} {peer.name}: {scenario.__name__}, {apps} apps", file=sys.stderr)
        commands = [[str(self.tools.app), str(one.diary.path), str(n), *map(str, extra)] for n in range(apps)]
        try:
            scenario(one, commands)
        except (TimeoutError, RuntimeError, OSError, subprocess.SubprocessError) as error:
            print(f"  {peer.name} failed: {error}", file=sys.stderr)
            self.put(one, f"failed {scenario.__name__} {apps}", 1)
        finally:
            one.end()

    def in_turns(self, apps, scenario, extra=()):
        for peer in PEERS:
            if peer.name in self.tools.only:
                self.run(peer, apps, extra, scenario)

    # Scenarios.

    def starts(self, peer, commands):
        self.put(peer, f"start {len(commands)}", peer.begin(commands))

    def memory(self, peer, commands):
        self.starts(peer, commands)
        time.sleep(SETTLE)
        self.put(peer, f"pss {len(commands)}", pss(peer.pids()))

    def life(self, peer, commands):
        """Memory, idling, `list`, kills one by one."""
        self.memory(peer, commands)
        self.idles(peer, len(commands))
        self.lists(peer)
        self.kills(peer, 20 if self.quick else 50)

    def memory_and_idle(self, peer, commands):
        self.memory(peer, commands)
        self.idles(peer, len(commands))

    def kills_one_by_one(self, peer, commands):
        self.memory(peer, commands)
        self.lists(peer)
        self.kills(peer, 50)

    def idles(self, peer, apps):
        pids = peer.pids()
        # PM2's worker looks at memory every 30 s.
        span = 30
        before, then = (cpu(pids), wakeups(pids)), time.monotonic()
        time.sleep(span)
        after, span = (cpu(pids), wakeups(pids)), time.monotonic() - then
        self.put(peer, f"idle cpu {apps}", (after[0] - before[0]) / 1e6 * 60 / span)
        self.put(peer, f"idle wakeups {apps}", (after[1] - before[1]) / span)

    def lists(self, peer):
        if not hasattr(peer, "list_command"):
            return
        for _ in range(5 if peer.name == "pm2" else 20):
            then = now()
            subprocess.run(peer.list_command(), env=peer.environment(), stdout=subprocess.DEVNULL, check=True)
            self.put(peer, "list", (now() - then) / 1e6)

    def kills(self, peer, number):
        latest = {app: pid for app, pid, _ in peer.diary.read()}
        for n in range(number):
            # Spread over 0.1 to 0.3 s and over the apps, the same for every peer.
            time.sleep(0.1 + 0.2 * (n * 7 % 10) / 10)
            app = str(n * 13 % len(latest))
            known = len(peer.diary.read())
            then = now()
            os.kill(latest[app], signal.SIGKILL)
            peer.diary.await_runs(known + 1)
            _, latest[app], at = peer.diary.runs[-1]
            self.put(peer, "kill", (at - then) / 1e6)

    def kills_at_once(self, peer, commands):
        peer.begin(commands)
        # PM2 counts what ends within a second as unstable, and slows down.
        time.sleep(2)
        pids = [pid for _, pid, _ in peer.diary.runs]
        then = now()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        peer.diary.await_runs(2 * len(pids))
        self.put(peer, "at once", (max(at for _, _, at in peer.diary.runs) - then) / 1e6)

    def floods(self, peer, commands):
        size = int(commands[0][4])
        # One app that floods, and a second that only proves that all are up.
        silent = [commands[0][0], commands[0][1], "silent"]
        peer.begin([silent, commands[0]])
        began = next(at for app, _, at in peer.diary.runs if app == "0")
        pids = peer.pids()
        before, used, most = rss(pids), cpu(pids), 0
        landed, at, until = 0, began, time.monotonic() + 40
        while time.monotonic() < until:
            most = max(most, rss(pids))
            new, seen = peer.landed(), now()
            if new != landed:
                landed, at = new, seen
            end = peer.diary.read() and peer.diary.ends.get("0")
            if end and (landed >= end[1] or seen - at > 3 * GB):
                break
            time.sleep(0.005)
        ended, written, app_cpu = peer.diary.ends["0"]
        self.put(peer, f"log {size} rate", landed / 1e6 / ((at - began) / 1e9))
        self.put(peer, f"log {size} cpu", (cpu(pids) - used) / 1e9 / (landed / GB))
        self.put(peer, f"log {size} app cpu", app_cpu / 1e6 / (written / GB))
        self.put(peer, f"log {size} growth", (most - before) / 1024)
        self.put(peer, f"log {size} lost", written - landed)

    def go(self):
        try:
            self.measure()
        finally:
            shutil.rmtree(self.work, ignore_errors=True)

    def measure(self):
        burst = 100 if self.quick else 200
        for turn in range(1 if self.quick else 3):
            self.in_turns(100, self.life if turn == 0 else self.kills_one_by_one)
            self.in_turns(burst, self.kills_at_once)
            for size in (64 << 10, 100):
                self.in_turns(1, self.floods, (GB, size, 2 if self.quick else 5))
            if not self.quick:
                self.in_turns(10, self.memory if turn == 0 else self.starts)
                self.in_turns(500, self.memory_and_idle if turn == 0 else self.starts)
                if turn == 0:
                    self.in_turns(1, self.memory)

    # The report.

    def report(self):
        print(f"Kernel {platform.release()}, {os.cpu_count()} cores; {self.tools.versions}.\n")
        counts = [100] if self.quick else [1, 10, 100, 500]
        self.table(
            "Memory: PSS of the supervisor's own processes, 5 s after all are up",
            [(f"{n} apps, MB", f"pss {n}", lambda kib: kib / 1024) for n in counts],
        )
        if not self.quick:
            rows = [(peer.name, self.get("pss 500", peer.name), self.get("pss 100", peer.name)) for peer in PEERS]
            grown = [f"{name} {(big - small) / 400:.1f} KB" for name, big, small in rows if big and small]
            print(f"Growth per app, from 100 to 500: {', '.join(grown)}.\n")
        self.table(
            "From the start command to main() of the last app, daemon's start included",
            [(f"{n} apps, ms", f"start {n}") for n in counts if n > 1],
        )
        self.table(
            "From SIGKILL to the new main(), 100 apps",
            [
                ("p50, ms", "kill"),
                ("p99, ms", "kill", None, lambda values: statistics.quantiles(values, n=100)[98]),
                (f"{100 if self.quick else 200} at once, all back, ms", "at once"),
            ],
        )
        idle = [n for n in counts if n >= 100]
        self.table(
            "Idle",
            [(f"CPU ms a minute, {n} apps", f"idle cpu {n}") for n in idle]
            + [(f"wakeups a second, {n} apps", f"idle wakeups {n}") for n in idle],
        )
        self.table("`list` of 100 apps, command start to end", [("wall, ms", "list")])
        for size, what in ((64 << 10, "writes of 64 KB"), (100, "one write for each line of 100 bytes")):
            metrics = [("landed, MB/s", "rate"), ("supervisor, CPU s/GB", "cpu"), ("app, CPU s/GB", "app cpu")]
            metrics += [("RSS growth, MB", "growth"), ("bytes lost", "lost")]
            self.table(f"Logs: {what}", [(shown, f"log {size} {metric}") for shown, metric in metrics])
        for metric, peers in self.results.items():
            if metric.startswith("failed"):
                print(f"Failed: {metric.removeprefix('failed ')}: {dict(peers)}\n")

    def table(self, title, columns):
        print(f"### {title}\n")
        print("| | floor | stead | PM2 | stead / floor | stead / PM2 |\n|---|---:|---:|---:|---:|---:|")
        for shown, metric, *how in columns:
            scale = how[0] if how and how[0] else lambda value: value
            of = how[1] if len(how) > 1 else statistics.median
            values = [self.get(metric, peer.name, of) for peer in PEERS]
            floor, stead, pm2 = [None if value is None else scale(value) for value in values]
            cells = [figure(floor), figure(stead), figure(pm2), ratio(stead, floor), ratio(stead, pm2)]
            print(f"| {shown} | {' | '.join(cells)} |")
        print()


def figure(value):
    if value is None:
        return "–"
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def ratio(a, b):
    return "–" if a is None or not b or a < 0 or b < 0 else f"{figure(a / b)}x"


def prepare(tools):
    """Finds the programs, and their versions."""
    tools.stead, tools.tools = tools.stead.resolve(), tools.tools.resolve()
    tools.floor, tools.app = tools.tools / "floor", tools.tools / "app"
    tools.pm2 = tools.tools / "node_modules/pm2/bin/pm2"
    package = json.loads((tools.tools / "node_modules/pm2/package.json").read_text())
    said = lambda *words: subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    tools.versions = f"{said(tools.stead, '--version')}, PM2 {package['version']} on node {said('node', '--version')}"
    # What an operator's shell would hold, and the same for every peer.
    for name in [name for name in os.environ if name.startswith(("PM2_", "STEAD_"))]:
        del os.environ[name]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="100 apps only, one round")
    parser.add_argument("--stead", type=Path, required=True)
    parser.add_argument("--tools", type=Path, required=True, help="the folder with floor, app and node_modules")
    parser.add_argument("--only", choices=[peer.name for peer in PEERS], nargs="+", help="only these",
                        default=[peer.name for peer in PEERS])
    tools = parser.parse_args()
    prepare(tools)
    bench = Bench(tools, tools.quick)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    bench.go()
    bench.report()


if __name__ == "__main__":
    main()
