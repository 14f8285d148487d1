"""Code of others that is about to be loaded, tried first in a copy of this process: it may end the
process, or never end.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import select
import signal
from collections.abc import Callable
from typing import Any

from .processes import end_group_with_pipe, end_with_parent, fork

#: Environment variable of what was tried, by name, as JSON: how each would have ended this process,
#: or an empty text. The processes that a program starts inherit it and try nothing again; where it
#: is not set, nothing is tried at all.
VARIABLE = "PUDLE_TRIED"
#: Seconds that loading may take, torch aside: many more than any package needs, also on a busy
#: machine.
SECONDS = 60.0


def begin() -> None:
    """Let this process, and those that it starts, try what they load."""
    os.environ.setdefault(VARIABLE, "{}")


def verdict(name: str, load: Callable[[], Any]) -> str:
    """Return how loading something would end this process, as the rest of a sentence, or an empty
    text if it would not.

    An error that it raises is no such end: whoever loads it sees the error.
    """
    if VARIABLE not in os.environ or not hasattr(os, "fork"):
        return ""
    tried: dict[str, str] = json.loads(os.environ[VARIABLE])
    if name not in tried:
        import torch  # noqa: F401  # the copy has what this process has, and needs no seconds for it

        tried[name] = _end(load)
        os.environ[VARIABLE] = json.dumps(tried)
    return tried[name]


def _end(load: Callable[[], Any]) -> str:
    done, tell = os.pipe()
    parent = os.getpid()
    copy = fork()
    if copy == 0:
        # What is loaded may load more, and may print; this process does both again.
        try:
            os.setpgid(0, 0)
            os.close(done)
            end_group_with_pipe(tell)
            end_with_parent(parent)
            # It would tell how this copy ended, to a stream of its own.
            faulthandler.disable()
            del os.environ[VARIABLE]
            nowhere = os.open(os.devnull, os.O_RDWR)
            for stream in range(3):
                os.dup2(nowhere, stream)
            with contextlib.suppress(BaseException):
                load()
            os.write(tell, b".")
        finally:
            os._exit(0)
    os.close(tell)
    try:
        ready, _, _ = select.select([done], [], [], SECONDS)
        if ready and os.read(done, 1):
            return ""
    finally:
        os.close(done)
        for group in (True, False):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                (os.killpg if group else os.kill)(copy, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1])
    if not ready:
        return f"does not come to an end within {SECONDS:g} s when it is loaded"
    how = f"with exit code {code}" if code >= 0 else f"by signal {-code}"
    return f"ends the whole process {how} when it is loaded"
