"""Measures how memory caps hold, stead beside PM2: a leak, a burst, and what it costs to watch those that stand still.

Prints Markdown. Called by run.sh --memory.
"""

import argparse
import contextlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import bench

CAP = 100  # MiB
WALL = 125  # MiB: stead's default for this cap
RATE = 100  # MiB/s
BURST = 1000  # MiB, at once
MIB = 1 << 20
PEERS = [bench.Stead, bench.Pm2]


def leaks(peer, tools, rounds):
    """One that leaks is restarted some times; each of its runs tells when it was to end."""
    # PM2 looks every 30 s: up to 4 GB would be taken. One round of it says enough.
    rounds = rounds if peer.name == "stead" else 1
    peer.begin([[str(tools.leak), str(peer.diary.path), "0", str(CAP), str(RATE), "4000"]])
    bench.wait_for("restarts", lambda: len(peer.diary.read()) > rounds, 10 + 35 * rounds)
    starts = [at for _, _, at in peer.diary.runs]
    for (at, usage, crossed), new in zip(peer.diary.interrupts[:rounds], starts[1:], strict=False):
        yield "overshoot", (usage / MIB - CAP) / CAP * 100
        yield "to SIGINT", (at - crossed) / 1e6
        yield "to new process", (new - crossed) / 1e6
        if peer.name == "pm2":
            yield "highest", usage / MIB
    if peer.name == "stead":
        for record in records(peer):
            yield "highest", record["memory"]["peak_bytes"] / MIB
            yield "cause", record["cause"]


def bursts(peer, tools, _):
    """One takes ten times its cap at once, beside four that do nothing."""
    path = str(peer.diary.path)
    bystanders = [[str(tools.app), path, str(n)] for n in range(1, 5)]
    peer.begin([[str(tools.leak), path, "0", str(CAP), "0", str(BURST)], *bystanders])
    runs = list(peer.diary.runs)
    burst = next(pid for app, pid, _ in runs if app == "0")
    highest = 0
    until = time.monotonic() + 5
    # Until it is over, or seen to be borne.
    while bench.alive(burst) and time.monotonic() < until:
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):  # it dies at its wall
            highest = max(highest, bench.rss([burst]) / 1024)
        time.sleep(0.001)
    yield "burst highest", records(peer)[-1]["memory"]["peak_bytes"] / MIB if peer.name == "stead" else highest
    yield "bystanders harmed", sum(not bench.alive(pid) for app, pid, _ in runs if app != "0")


def idles(peer, tools, _):
    """100 trees of three processes that stand still below their caps."""
    peer.begin([[str(tools.leak), str(peer.diary.path), str(n), "tree"] for n in range(100)])
    time.sleep(bench.SETTLE)
    pids = peer.pids()
    before, then = cpu(pids), time.monotonic()
    time.sleep(60)
    yield "idle", (cpu(pids) - before) * 60 / (time.monotonic() - then)


def cpu(pids):
    """Milliseconds. A kernel without schedstat, as that of the guests, has but ticks of 10 ms."""
    if Path("/proc/self/schedstat").exists():
        return bench.cpu(pids) / 1e6
    stats = (Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split() for pid in pids)
    return sum(int(stat[11]) + int(stat[12]) for stat in stats) * 10


def records(peer):
    """Of app-0, newest first."""

    def ended():
        said = subprocess.run([peer.tools.stead, "why", "app-0", "--json"], env=peer.environment(), capture_output=True)
        return json.loads(said.stdout or "{}").get("records")

    return bench.wait_for("a record", ended)


def measure(tools):
    results = {peer.name: {} for peer in PEERS}
    work = Path(tempfile.mkdtemp(prefix="stead-bench-"))
    wishes = {"max_memory_restart": f"{CAP}M", "min_uptime": 100, "max_restarts": 1000}
    try:
        for scenario in (leaks, bursts, idles):
            for kind in PEERS:
                if kind.name not in tools.only:
                    continue
                print(f"{time.strftime('%H:%M:%S')} {kind.name}: {scenario.__name__}", file=sys.stderr)
                peer = kind(tools, work / f"{scenario.__name__}-{kind.name}", **wishes)
                try:
                    for metric, value in scenario(peer, tools, tools.rounds):
                        results[kind.name].setdefault(metric, []).append(value)
                except (TimeoutError, RuntimeError) as error:
                    print(f"  {kind.name} failed: {error}", file=sys.stderr)
                finally:
                    peer.end()
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return results


def report(tools, results):
    print(f"Kernel {bench.platform.release()}, {bench.os.cpu_count()} cores; {tools.versions}.\n")
    print("| | stead, median | stead, worst | PM2 | goal |\n|---|---:|---:|---:|---:|")
    rows = [
        (f"leak of {RATE} MiB/s, cap {CAP}M: above the cap at SIGINT, %", "overshoot", tools.goal),
        ("the same: highest usage, MiB", "highest", f"≤ {WALL}"),
        ("the same: from crossing to SIGINT, ms", "to SIGINT", "≤ 50"),
        ("the same: from crossing to main() of the next, ms", "to new process", "≤ 200"),
        (f"burst of {BURST} MiB, cap {CAP}M: highest usage, MiB", "burst highest", f"≤ {WALL}"),
        ("the same: other apps that came to harm", "bystanders harmed", "0"),
        ("100 idle trees of 3 processes, CPU ms a minute", "idle", "≤ 200"),
    ]
    for shown, metric, goal in rows:
        stead, pm2 = (results[peer.name].get(metric) for peer in PEERS)
        median, worst = (statistics.median(stead), max(stead)) if stead else (None, None)
        cells = [median, worst, max(pm2) if pm2 else None]
        print(f"| {shown} | {' | '.join(map(bench.figure, cells))} | {goal} |")
    causes = results["stead"].get("cause", [])
    print(f"\n{len(causes)} runs of stead's leak ended: {', '.join(sorted({f'{one} {causes.count(one)}' for one in causes}))}.")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stead", type=Path, required=True)
    parser.add_argument("--tools", type=Path, required=True, help="the folder with app, leak and node_modules")
    parser.add_argument("--only", choices=[peer.name for peer in PEERS], nargs="+", default=[peer.name for peer in PEERS])
    parser.add_argument("--rounds", type=int, default=20, help="restarts of the leak under stead")
    tools = parser.parse_args()
    bench.prepare(tools)
    tools.leak = tools.tools / "leak"
    tools.goal = "≤ 15" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "≤ 10"
    bench.signal.signal(bench.signal.SIGTERM, lambda *_: sys.exit(143))
    report(tools, measure(tools))


main()
