"""The store: one file per result, named by the hash of all that the result depends on; and the lock
on a folder of results.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from ..errors import ChangedSources, PudleError
from ..files import sweep
from ..kernel_choice import choice
from . import sources
from .case import Case
from .results.reference import CaseReference
from .results.result import Result
from .results.score import Scores


class Place(NamedTuple):
    """Where a result is kept, and its key."""

    path: Path
    key: str


@dataclass
class Store:
    """The results of one profile, as files.

    Writing is atomic, so that a process can be killed at any moment and any number of processes can
    share a store. A file that is damaged counts as missing, so that a run measures it again and
    replaces it.

    Parameters
    ----------
    folder : Path
        Folder of the files; made when first written to.
    profile : str
        Name of the profile.
    device : str
        Device that estimates are computed on.
    commit, dirty : str, bool
        Label of the records that are written: the commit that is measured, and whether files differ
        from it.
    planned : frozenset of str, optional
        Keys of the results that may be written, by default all. One of another key is refused with
        ChangedSources: its sources or data have changed since, and nobody knows which of them it
        comes from.
    """

    folder: Path
    profile: str
    device: str = "cpu"
    commit: str = ""
    dirty: bool = False
    planned: frozenset[str] | None = None

    @property
    def kernels(self) -> str:
        """Whether compiled kernels may be used, which results depend on."""
        return choice()

    def place(self, result: Result[object]) -> Place:
        """Return the file of a result, whether or not it exists, and its key now."""
        key = result.key(self)
        return Place(self.folder / result.file(key), key)

    def confirmed(self, result: Result[object]) -> Place:
        """Return the place of a result to be written, computed anew, or raise ChangedSources."""
        if self.planned is not None:
            sources.forget()
        place = self.place(result)
        if self.planned is not None and place.key not in self.planned:
            raise ChangedSources(
                "sources or data were changed during the run: finished results are kept; run again"
            )
        return place

    def path(self, case: Case, estimator: str) -> Path:
        """Return where the record of an estimator (a spec) on a case is kept."""
        return self.place(Scores(case, estimator)).path

    def reference_path(self, case: Case, seed: int, target: str) -> Path:
        """Return where the reference of a seed is kept."""
        return self.place(CaseReference(case, seed, target)).path


@contextlib.contextmanager
def locked(folder: Path, what: str) -> Iterator[None]:
    """Hold the lock of a folder, made if missing and cleared of unfinished files, or raise
    PudleError if it is held: two commands never write to it at once.

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
