"""What the Python apps of the tests share."""

import fcntl
import os
import signal
import sys
import time

NAME = os.environ["STEAD_NAME"]


def note(text, name=NAME):
    """Appends a line to NAME.diary, by one write."""
    diary = os.open(name + ".diary", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(diary, (text + "\n").encode())
    os.close(diary)


def alone():
    """Notes in `two.diary` where another run's process of the same app still lives. Forked children keep the lock."""
    lock = open(NAME + ".lock", "a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        note(os.environ["STEAD_RUN"], "two")
    return lock


def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.01)


def forever():
    while True:
        time.sleep(1000)
