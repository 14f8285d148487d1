"""Experiments: what a profile carries out besides its cases, such as trainings, each with a history
and pictures.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

from ..text import first_sentence

#: A number or a text in a table.
Plain = str | int | float | bool | None
#: An array of any shape and type.
Stored = np.ndarray[tuple[int, ...], np.dtype[np.generic]]
#: Summary and arrays of a result.
Outcome = tuple[dict[str, Plain], dict[str, Stored]]
#: Called with the steps done, the steps in all, and one line about the current step.
ProgressCallback = Callable[[int, int, str], None]


def silent(completed: int, total: int, line: str) -> None:
    """Show no progress."""


@dataclass(frozen=True, eq=False)
class ExperimentResult:
    """The result of an experiment.

    Attributes
    ----------
    rows : list of mapping
        The history as plain numbers and text, in order; each kind of experiment has its own
        columns.
    summary : mapping
        Plain numbers and text for a table.
    arrays : mapping from str to array
        Pictures, filters, dictionaries.
    status : str
        One of `pudle.measuring.stored_files.STATUSES`; the fields above count only where it is
        ``ok``.
    reason : str
        Why the status is not ``ok``; empty where it is.
    """

    rows: Sequence[Mapping[str, Plain]]
    summary: Mapping[str, Plain] = field(default_factory=dict)
    arrays: Mapping[str, Stored] = field(default_factory=dict)
    status: str = "ok"
    reason: str = ""


@dataclass(frozen=True)
class Experiment(ABC):
    """One thing to carry out, described by plain values: subclasses are frozen dataclasses.

    A package offers experiments as a mapping from names to experiments, one mapping per study, in
    the entry-point group ``pudle.experiments``; the entry point's name is that of the study.

    Attributes
    ----------
    kind : str
        Name of the rows, summary and arrays that its result has.
    """

    kind: ClassVar[str]

    @property
    def shows(self) -> str:
        """What a list says that it shows: by default the first sentence on its class."""
        return first_sentence(inspect.getdoc(type(self)) or "")

    def expected_seconds(self) -> float | None:
        """Return about how many seconds it takes on one core, an order of magnitude; None, as by
        default, where nobody knows.
        """
        return None

    @abstractmethod
    def run(
        self, folder: Path, device: str = "cpu", progress: ProgressCallback = silent
    ) -> ExperimentResult:
        """Carry the experiment out, and return its result.

        Parameters
        ----------
        folder : Path
            Folder for checkpoints. What an interrupted run left there is continued; the folder is
            removed once the result is stored.
        device : {"cpu", "cuda"}
        progress : callable
            Called now and then.

        Raises
        ------
        InvalidArgument, MissingDependency
            If the experiment cannot be carried out as described, or a package is missing.
        """

    def fingerprint(self) -> str:
        """Return a text of all that the result depends on besides fields and sources, such as the
        state of files that are read; empty by default.
        """
        return ""
