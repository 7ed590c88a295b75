"""What a lab has made, kept on disk, so that the next run can clean up after one that was killed.

Written before a thing is made, never after: a record may name what was never made, but not the other way
round. Processes are found by the namespaces they run in, and ended one by one, by pid.
"""
import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

STATES = pathlib.Path("/run/waxseal-lab")
PINS = pathlib.Path("/sys/fs/bpf")
NETNS = pathlib.Path("/run/netns")
END_SECONDS = 10


def started_at(pid):
    """The process's start time in clock ticks: with it, a pid names one process for ever. None: gone."""
    try:
        return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, IndexError):
        return None


def processes_in(namespace):
    """Pids of everything that runs in that network namespace, but for ourselves (a thread of ours may)."""
    try:
        wanted = os.stat(NETNS / namespace).st_ino
    except OSError:
        return []
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{entry}/ns/net").st_ino == wanted:
                    found.append(int(entry))
    return found


def end_all(namespaces):
    """SIGTERM, then SIGKILL for what is still there; also what is born meanwhile."""
    deadline = time.monotonic() + END_SECONDS
    told = set()
    while True:
        left = [pid for name in namespaces for pid in processes_in(name)]
        if not left:
            return
        late = time.monotonic() > deadline
        for pid in left:
            if late or pid not in told:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
                    os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
            told.add(pid)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        if late and time.monotonic() > deadline + END_SECONDS:
            raise RuntimeError(f"these processes do not end: {left}")
        time.sleep(0.02)


class State:
    def __init__(self, name):
        STATES.mkdir(exist_ok=True)
        self.path = STATES / f"{name}.json"
        self.data = {"name": name, "owner": os.getpid(), "owner_start": started_at(os.getpid()), "standing": False,
                     "namespaces": [], "folders": [], "pins": [], "mounts": []}
        self.save()

    def save(self):
        temporary = self.path.with_suffix(".new")
        temporary.write_text(json.dumps(self.data))
        temporary.rename(self.path)

    def add(self, kind, item):
        if str(item) not in self.data[kind]:
            self.data[kind].append(str(item))
            self.save()

    def set(self, **values):
        self.data.update(values)
        self.save()

    def clean(self):
        clean(self.data)
        self.path.unlink(missing_ok=True)


def clean(data):
    end_all(data["namespaces"])
    for pin in data["pins"]:
        with contextlib.suppress(OSError):
            (PINS / pin).unlink()
    for namespace in data["namespaces"]:
        if (NETNS / namespace).exists():
            subprocess.run(["ip", "netns", "del", namespace], check=False)
    for mount in data.get("mounts", ()):
        if os.path.ismount(mount):
            subprocess.run(["umount", "-l", mount], check=False)
    for folder in data["folders"]:
        shutil.rmtree(folder, ignore_errors=True)


def records():
    for path in sorted(STATES.glob("*.json")):
        with contextlib.suppress(OSError, ValueError):
            yield path, json.loads(path.read_text())


def clean_leftovers(names=None):
    """Ends labs whose owner is gone (`names`: those, whoever owns them); returns how many."""
    count = 0
    for path, data in records():
        orphan = not data["standing"] and started_at(data["owner"]) != data["owner_start"]
        if data["name"] in names if names is not None else orphan:
            clean(data)
            path.unlink(missing_ok=True)
            count += 1
    return count


def standing():
    return [data["name"] for _, data in records() if data["standing"]]


@contextlib.contextmanager
def one_appliance():
    """The classifier's pins are one set a machine: labs with an appliance go one after another."""
    STATES.mkdir(exist_ok=True)
    with open(STATES / "appliance.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("lab: another lab's appliance is running; waiting for its end", file=sys.stderr, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
