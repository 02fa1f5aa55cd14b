"""Copies the collectors' JSON Lines to the Drive folder; only whole lines, and only files that changed."""

import errno
import os
import shutil

import demolib
import faults

RESERVE = 16 * 2**20

copied = {}


def make_room():
    demolib.DRIVE.mkdir(exist_ok=True)
    free = faults.supply(lambda: shutil.disk_usage(demolib.DRIVE).free, 4096)
    if free < RESERVE:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(demolib.DRIVE))


def work():
    make_room()
    for path in sorted(demolib.DATA.glob("*.jsonl")):
        changed = path.stat().st_mtime_ns
        own = path.name.startswith("gdrive-")  # what gdrive-detector writes of these copies
        if not own and copied.get(path) != changed:
            whole, _, _ = path.read_text().rpartition("\n")
            demolib.replace(demolib.DRIVE / path.name, whole + "\n")
            copied[path] = changed


demolib.run("gdrive-jsonl-manager", 10, work)
