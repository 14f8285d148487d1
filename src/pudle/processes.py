"""Processes that end with their parent, and copies of a process that a task may spoil or break."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

#: One thread per process, whichever library does the arithmetic; jax reads NPROC.
ONE_THREAD = dict.fromkeys(
    "OMP_NUM_THREADS MKL_NUM_THREADS OPENBLAS_NUM_THREADS NUMEXPR_NUM_THREADS NPROC".split(), "1"
)
#: Seconds between two looks at processes that say nothing.
TICK = 0.25


def end_with_parent(parent: int, end: Callable[[], Any] = lambda: os._exit(1)) -> None:
    """End this process soon after its parent, whose number is `parent`: not in a call during which
    no other thread runs.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(TICK)
        end()

    threading.Thread(target=watch, daemon=True).start()


def end_group_with_pipe(pipe: int) -> None:
    """Let the system kill this process and its group when the other end of a pipe is closed,
    whatever they are doing.

    The other end is closed when the process that holds it ends, however it does. Only Linux can do
    this; elsewhere nothing happens.
    """
    if hasattr(fcntl, "F_SETSIG"):
        fcntl.fcntl(pipe, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(pipe, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)


def return_freed_memory() -> None:
    """Give memory that was freed back to the system: what finds it in the heap of a copy seems to
    need none.
    """
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)


def return_freed_blocks() -> None:
    """Give blocks of memory back to the system as soon as they are freed, from now on, if they are
    larger than 128 KiB.

    By default the GNU C library raises this limit to the size of the largest block that was ever
    freed.
    """
    if set_option := getattr(ctypes.CDLL(None), "mallopt", None):
        set_option(-3, 1 << 17)  # M_MMAP_THRESHOLD


def fork() -> int:
    """Return zero in a copy of this process, and the number of the copy in this one."""
    with warnings.catch_warnings():
        # Python 3.12 warns of other threads, whose locks a copy would find locked: those here only
        # wait.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def run_in_copy(function: Callable[..., Any], *arguments: Any) -> int:
    """Call a function in a copy of this process, which ends with this one, and return the copy's
    exit code.

    The code is 0 if the function returned, 1 if it raised, and the negative signal number if a
    signal ended the copy.
    """
    parent = os.getpid()
    copy = fork()
    if copy == 0:
        code = 1
        try:
            end_with_parent(parent)
            function(*arguments)
            code = 0
        finally:
            # Neither the caller's handlers nor its buffers are this copy's to run and to flush.
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1])
