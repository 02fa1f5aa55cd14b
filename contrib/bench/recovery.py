"""Measures what a death of the daemon costs, and what the keeper takes: from SIGKILL to the first answer of the next daemon at 100 apps,
and the keeper's PSS at 10 to 500 apps. Prints Markdown.

    python3 contrib/bench/recovery.py --stead target/release/stead
"""

import argparse
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COUNTS = [10, 100, 500]
AT = 100
KILLS = 30
SERVED = 1.2  # seconds: one that died sooner would be waited for
SETTLE = 3.0
GOAL_MS = 150
GOAL_BASE, GOAL_EACH = 1_500_000, 2_000  # bytes


class Stead:
    def __init__(self, program, home):
        self.program, self.home, self.environment = program, home, {**os.environ, "STEAD_HOME": str(home)}

    def run(self, *words):
        said = subprocess.run([self.program, *words], env=self.environment, capture_output=True, text=True)
        if said.returncode:
            raise RuntimeError(f"stead {' '.join(map(str, words))}: {said.stderr}")
        return said.stdout

    def ping(self):
        """Without a process of its own, which would be measured too."""
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(30)
            door.connect(str(self.home / "stead.sock"))
            door.sendall(b"GET /v1/ping HTTP/1.1\r\nhost: stead\r\nconnection: close\r\n\r\n")
            said = b"".join(iter(lambda: door.recv(65536), b""))
        return json.loads(said.split(b"\r\n\r\n", 1)[1])

    def grow(self, count):
        apps = [{"name": f"app-{n}", "script": "/bin/sleep", "args": "100000"} for n in range(count)]
        file = self.home.parent / "ecosystem.json"
        file.write_text(json.dumps({"apps": apps}))
        self.run("start", file)


def back_in(stead):
    pong = stead.ping()
    began = time.perf_counter()
    os.kill(pong["daemon_pid"], signal.SIGKILL)
    while True:
        try:
            if stead.ping()["daemon_pid"] != pong["daemon_pid"]:
                return (time.perf_counter() - began) * 1000
        except (OSError, ValueError, IndexError):
            # It died with our question.
            pass


def pss(pid):
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"^Pss:\s+(\d+) kB", text, re.M)[1]) * 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stead", type=Path, required=True)
    program = parser.parse_args().stead.resolve()
    for name in [name for name in os.environ if name.startswith("STEAD_")]:
        del os.environ[name]
    times, weights = [], {}
    with tempfile.TemporaryDirectory(prefix="stead-bench-") as folder:
        stead = Stead(program, Path(folder) / "home")
        try:
            for count in COUNTS:
                stead.grow(count)
                time.sleep(SETTLE)
                weights[count] = pss(stead.ping()["keeper_pid"])
                for _ in range(KILLS if count == AT else 0):
                    time.sleep(SERVED)
                    times.append(back_in(stead))
        finally:
            stead.run("kill")
    median, worst = statistics.median(times), max(times)
    print(f"Kernel {os.uname().release}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {subprocess.run([program, '--version'], capture_output=True, text=True).stdout.strip()}.\n")
    print("| | | goal |\n|---|---:|---|")
    print(f"| SIGKILL of the daemon to the next one's first answer, {AT} apps, median of {KILLS}, ms | {median:.0f} | ≤ {GOAL_MS} |")
    print(f"| the same, worst, ms | {worst:.0f} | |")
    for count, bytes_ in weights.items():
        print(f"| PSS of the keeper, {count} apps, MB | {bytes_ / 1e6:.2f} | ≤ {(GOAL_BASE + GOAL_EACH * count) / 1e6:.2f} |")
    each = (weights[COUNTS[-1]] - weights[COUNTS[0]]) / (COUNTS[-1] - COUNTS[0])
    print(f"| the same, for each further app, KB | {each / 1000:.2f} | ≤ {GOAL_EACH / 1000:.0f} |")
    short = median > GOAL_MS or any(bytes_ > GOAL_BASE + GOAL_EACH * count for count, bytes_ in weights.items())
    sys.exit(short)


main()
