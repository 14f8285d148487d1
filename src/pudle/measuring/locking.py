"""A lock on a folder of results, so that two commands never write to it at once."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import PudleError
from ..files import sweep


@contextlib.contextmanager
def locked(folder: Path, what: str) -> Iterator[None]:
    """Hold the lock of a folder, made if missing and cleared of unfinished files, or raise
    PudleError if it is held.

    `what` says for the error text what writes to the folder, such as a run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "lock", timeout=0):
            sweep(folder)
            yield
    except Timeout:
        raise PudleError(
            f"another {what} is writing to {folder}: wait for it to end, or choose another --home"
        ) from None
