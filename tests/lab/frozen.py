"""One thread of a process stands still: what a worker that hangs looks like from outside, with nothing built in for it."""
import contextlib
import ctypes
import os
import pathlib

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
LIBC.ptrace.restype = ctypes.c_long
PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH = 0x4206, 0x4207, 17
WALL = 0x40000000


def ptrace(request, thread):
    if LIBC.ptrace(request, thread, None, None):
        raise OSError(ctypes.get_errno(), f"ptrace {request} of thread {thread}")


def threads(pid):
    """{name: thread}."""
    found = {}
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        found[(task / "comm").read_text().strip()] = int(task.name)
    return found


@contextlib.contextmanager
def frozen(pid, name):
    """The thread of that name does not run."""
    thread = threads(pid)[name]
    ptrace(PTRACE_SEIZE, thread)
    ptrace(PTRACE_INTERRUPT, thread)
    os.waitpid(thread, WALL)
    try:
        yield
    finally:
        ptrace(PTRACE_DETACH, thread)
