"""Notices what is new in the Drive folder: a plain folder here, a mount on a real server."""

import os

import demolib
import faults

seen = {}


def entries():
    folder = faults.supply(lambda: demolib.DRIVE, demolib.DRIVE / "not-mounted")
    with os.scandir(folder) as found:
        return sorted((entry.name, entry.stat().st_size) for entry in found if not entry.name.startswith("."))


def work():
    demolib.DRIVE.mkdir(exist_ok=True)
    for name, size in entries():
        if seen.get(name) != size:
            demolib.append("gdrive", name=name, bytes=size, new=name not in seen)
            seen[name] = size


demolib.run("gdrive-detector", 5, work)
