"""Commands of other programs that do not outlive this process, however it ends."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

#: Exit code of a command that took too long, as the program `timeout` has it.
TIMED_OUT = 124


@contextlib.contextmanager
def attended(
    command: Sequence[Any], when: str = "now", *, fds: Sequence[int] = (), **options: Any
) -> Iterator[Any]:
    """Run a command `now` and end it with all that it started when the block is left; or run it
    `after` the block.

    The block counts as left when this process ends, however it does, see ``attendant.py``. `fds`
    are file descriptors that the command inherits; the other options are those of
    `subprocess.Popen`, which is yielded.
    """
    theirs, ours = os.pipe()
    script = [
        sys.executable,
        "-I",
        "-S",
        str(Path(__file__).with_name("attendant.py")),
        str(theirs),
        when,
    ]
    with subprocess.Popen(
        [*script, *map(str, command)],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        pass_fds=(theirs, *fds),
        **options,
    ) as process:
        os.close(theirs)
        try:
            yield process
        finally:
            os.close(ours)


def run_attended(
    command: Sequence[Any], timeout: float | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, as `subprocess.run` does, and keep what it prints; it ends early if
    this process does.

    After `timeout` seconds it is ended with all that it started, and its exit code is `TIMED_OUT`.
    """
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with attended(command, **options, **pipes) as process:
        try:
            output = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(
                list(command), TIMED_OUT, "", f"not finished after {timeout:.0f} s"
            )
    return subprocess.CompletedProcess(list(command), process.returncode, *output)
