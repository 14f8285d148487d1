"""Experiments: what a profile measures beside its cases, such as trainings, each of which gives a history and pictures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import numpy as np

#: Called with the steps done, the steps in all, and one line about where it stands.
ProgressCallback = Callable[[int, int, str], None]


def silent(done: int, total: int, line: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True, eq=False)
class ExperimentResult:
    """What an experiment gave.

    Attributes
    ----------
    rows : list of mapping
        The history as plain numbers and text, in order; an experiment's own columns.
    summary : mapping
        What a table says of it: plain numbers and text.
    arrays : mapping from str to array
        Pictures, filters, dictionaries.
    status : str
        As in `pudle.Score`; what is here counts where this is ``ok``.
    reason : str
        Why the status is not ``ok``; empty where it is.
    """

    rows: list[dict[str, Any]]
    summary: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    status: str = "ok"
    reason: str = ""


class Experiment(ABC):
    """One thing to carry out, described by plain values: subclasses are frozen dataclasses.

    A package offers experiments as a mapping from names to them, one mapping per study, in the entry-point group
    ``pudle.experiments``; the entry point's name is that of the study.

    Attributes
    ----------
    kind : str
        Which rows, summary and arrays its outcome has.
    """

    kind: ClassVar[str]

    @abstractmethod
    def run(self, folder: Path, device: str = "cpu", progress: ProgressCallback = silent) -> ExperimentResult:
        """Carry it out.

        Parameters
        ----------
        folder : Path
            For what makes it possible to go on after an interruption: where something is there, go on from it. It is
            removed when the outcome is stored.
        device : {"cpu", "cuda"}
        progress : callable
            To be called now and then.

        Raises
        ------
        InvalidArgument
            If it cannot be carried out as described.
        MissingDependency
            If a package is missing.
        """

    def fingerprint(self) -> str:
        """Return what the outcome depends on beside the fields and the sources: the state of files that are read."""
        return ""
