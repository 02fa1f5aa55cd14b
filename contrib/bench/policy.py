"""Measures what probes and watches cost: CPU of the daemon with an HTTP probe a second for each of 100 apps, and its memory with a watch on
50,000 files. Prints Markdown. Called by run.sh --policy; it needs no PM2.
"""

import argparse
import asyncio
import json
import os
import subprocess
import tempfile
import threading
import time
from pathlib import Path

APPS = 100
MINUTE = 60.0
FILES, FOLDERS = 50_000, 2_000
LIMIT = 120.0
MB = 1_000_000


class Stead:
    def __init__(self, program, folder):
        self.program, self.folder = program, folder
        self.environment = {**os.environ, "STEAD_HOME": str(folder / "home")}

    def run(self, *words):
        said = subprocess.run([self.program, *words], env=self.environment, capture_output=True, text=True)
        if said.returncode:
            raise RuntimeError(f"stead {' '.join(words)}: {said.stderr}")
        return said.stdout

    def start(self, apps):
        file = self.folder / "ecosystem.json"
        file.write_text(json.dumps({"apps": apps}))
        self.run("start", str(file))

    def daemon(self):
        return json.loads(self.run("ping", "--json"))["daemon_pid"]


class Site:
    """Answers every request with 200, in a thread of its own, and counts them."""

    def __init__(self):
        self.answered, up = 0, threading.Event()

        async def answer(reader, writer):
            try:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
                await writer.drain()
                self.answered += 1
            finally:
                writer.close()

        async def serve():
            server = await asyncio.start_server(answer, "127.0.0.1", 0)
            self.port = server.sockets[0].getsockname()[1]
            up.set()
            await server.serve_forever()

        threading.Thread(target=lambda: asyncio.run(serve()), daemon=True).start()
        up.wait()


def cpu_ms(pid):
    """Of all threads, to the nanosecond where the kernel counts it so."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e6


def pss(pid):
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024


def wait_for(what, condition):
    until = time.monotonic() + LIMIT
    while not (found := condition()):
        if time.monotonic() > until:
            raise TimeoutError(f"not within {LIMIT:.0f} s: {what}")
        time.sleep(0.05)
    return found


def sleeper(name, **more):
    return {"name": name, "script": "/bin/sleep", "args": "100000", **more}


def probes(program, folder):
    """CPU of the daemon in a minute, without probes and with them, and how many there were."""
    site, stead = Site(), Stead(program, folder)

    def minute():
        time.sleep(5)
        pid = stead.daemon()
        before, answered = cpu_ms(pid), site.answered
        time.sleep(MINUTE)
        return cpu_ms(pid) - before, site.answered - answered

    try:
        stead.start([sleeper(f"app-{n}") for n in range(APPS)])
        idle, _ = minute()
        check = {"http": f"http://127.0.0.1:{site.port}/", "interval": "1s"}
        stead.start([sleeper(f"app-{n}", health_check=check) for n in range(APPS)])
        wait_for("all are probed", lambda: site.answered >= 2 * APPS)
        probed, answers = minute()
    finally:
        stead.run("kill")
    return idle, probed, answers


def watch(program, folder):
    """Growth of the daemon by the watch, in bytes of PSS, and how long it took to see a change."""
    stead, work = Stead(program, folder), folder / "work"
    for n in range(FOLDERS):
        inside = work / f"folder-{n}"
        inside.mkdir(parents=True)
        for m in range(FILES // FOLDERS):
            (inside / f"module_{m}.py").touch()

    def run_of():
        return json.loads(stead.run("describe", "app", "--json"))[0]["run"]

    try:
        stead.start([sleeper("app", cwd=str(work))])
        time.sleep(2)
        before = pss(stead.daemon())
        stead.start([sleeper("app", cwd=str(work), watch=True, watch_delay="100ms")])
        last, seen = work / f"folder-{FOLDERS - 1}" / "module_0.py", run_of()

        def changed():
            last.write_text("x")
            return run_of() != seen

        wait_for("the watch is there", changed)
        time.sleep(2)
        return pss(stead.daemon()) - before
    finally:
        stead.run("kill")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--stead", required=True)
    program = os.path.abspath(parser.parse_args().stead)
    with tempfile.TemporaryDirectory(prefix="stead-probes-") as folder:
        idle, probed, answers = probes(program, Path(folder))
    with tempfile.TemporaryDirectory(prefix="stead-watch-") as folder:
        watched = watch(program, Path(folder))
    print("### What probes and watches cost\n\n| | goal | measured |\n|---|---:|---:|")
    print(f"| CPU of the daemon in a minute, {APPS} apps without a probe, ms | – | {idle:.0f} |")
    print(f"| the same with an HTTP probe a second each ({answers:,} answered), ms | ≤ {0.02 * MINUTE * 1000:.0f} | {probed:.0f} |")
    print(f"| growth of the daemon by a watch on {FILES:,} files in {FOLDERS:,} folders, MB | ≤ 20 | {watched / MB:.1f} |")


if __name__ == "__main__":
    main()
