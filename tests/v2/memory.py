"""The apps of the memory stories: memory.py STORY."""
import mmap
import os
import signal
import sys
import time

kept = []
# Python's own way to die of it takes a second in a guest where others are busy.
signal.signal(signal.SIGINT, signal.SIG_DFL)


def take(mib):
    """Takes memory at once. The kernel fills it in, for a guest's page faults are slow."""
    kept.append(mmap.mmap(-1, mib << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE))


def wait():
    while True:
        time.sleep(1000)


def leak():
    """10 MiB/s."""
    while True:
        take(1)
        time.sleep(0.1)


def burst():
    """Deaf to a stop, so that it dies at its wall however soon stead sees it coming."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    take(400)
    wait()


def worker():
    """As gunicorn: the master is small, a worker leaks."""
    pid = os.fork()
    if pid == 0:
        leak()
    print(pid, flush=True)
    wait()


def prefork():
    """Four workers that share what their master has read."""
    take(40)
    workers = []
    while len(workers) < 4:
        pid = os.fork()
        if pid == 0:
            wait()
        workers.append(pid)
    pages = sum(int(open(f"/proc/{pid}/statm").read().split()[1]) for pid in [os.getpid(), *workers])
    print(pages * mmap.PAGESIZE, flush=True)
    wait()


def cache():
    """Reads a file of 500 MB, and leaks then."""
    with open(os.environ["BIG"], "rb", buffering=0) as file:
        while file.read(1 << 20):
            pass
    print("read", flush=True)
    leak()


def master():
    """Its worker outruns the wall; the master takes note of it and goes on."""
    pid = os.fork()
    if pid == 0:
        burst()
    print("worker", pid, os.waitpid(pid, 0)[1], flush=True)
    wait()


def escape():
    """Leaks in a process that has left the session, the parent and the environment."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            print(os.getpid(), flush=True)
            os.execve(sys.executable, [sys.executable, __file__, "leak"], {})
        os._exit(0)
    os.wait()
    wait()


def bomb():
    forks = 0
    try:
        while True:
            if os.fork() == 0:
                wait()
            forks += 1
    except OSError as error:
        print(forks, error.errno, flush=True)
    wait()


def hog():
    """Takes all that the machine has."""
    while True:
        take(8)


def later():
    """Leaks when it is told to."""
    while not os.path.exists("leak-now"):
        time.sleep(0.1)
    leak()


globals()[sys.argv[1]]()
