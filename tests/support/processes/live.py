"""Processes that tests look for: each carries a mark in its command line or environment."""

import os
import signal
import time
from pathlib import Path


def marked(mark):
    """Return the living processes with a mark in their command line or environment, besides this
    one; needs ``/proc``.
    """
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if not folder.name.isdigit() or int(folder.name) == os.getpid():
                continue
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            texts = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
        except OSError:
            continue
        if state != "Z" and mark.encode() in texts:
            found.append(int(folder.name))
    return found


def gone(mark, seconds=2.0):
    """Return whether no process with the mark is left after some seconds at most."""
    deadline = time.monotonic() + seconds
    while marked(mark):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def wait_for(condition, seconds=120.0):
    """Wait until a condition holds, and return what it gave."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, "the condition never held"
        time.sleep(0.02)
    return result


def heed_interrupts():
    """For `preexec_fn`: where the tests run in the background of a shell, SIGINT is ignored, and
    children inherit that.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
