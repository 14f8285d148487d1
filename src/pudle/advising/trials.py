"""Errors of estimators on draws of a problem, measured once each and kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from .. import names
from ..algorithms import Algorithm
from ..data import Dataset
from ..errors import InvalidArgument
from ..measuring.measurement import attempt
from ..measuring.scoring import Score, score
from ..problems import FixedPoint, Problem
from ..references.certified import SCORED, Reference, default_target, reference


def label(estimator: Any) -> str:
    """Return the spec of an estimator, or its class' name."""
    if isinstance(estimator, str):
        return estimator
    return names.text(estimator) if hasattr(estimator, "name") else type(estimator).__name__


def _algorithm(algorithm: Algorithm | str | None, problem: Problem) -> Any:
    """Return an algorithm or the one that a spec names; by default ISTA, or a problem's own
    iteration.
    """
    default = "iteration" if isinstance(problem, FixedPoint) else "ista"
    return (
        algorithm
        if isinstance(algorithm, Algorithm)
        else names.make_algorithm(algorithm or default)
    )


@dataclass
class Trials:
    """Draws of one kind of problem with their references, and the errors measured on them so far.

    Parameters
    ----------
    draw : callable
        Returns the problem of a seed.
    algorithm : Algorithm
    text : str
        The problem in words.
    seeds : int or None
        Number of different draws, if it is limited: one for a single problem.
    """

    draw: Callable[[int], Problem]
    algorithm: Algorithm
    text: str
    seeds: int | None = None
    failures: dict[str, str] = field(default_factory=dict)
    _drawn: dict[int, tuple[Problem, Reference]] = field(default_factory=dict, repr=False)
    _errors: dict[tuple[str, int, int], float] = field(default_factory=dict, repr=False)
    _target: str = ""

    @classmethod
    def of(
        cls,
        problem: Problem | Dataset | str,
        algorithm: Algorithm | str | None,
        loss: str | None = None,
        device: str = "cpu",
    ) -> Trials:
        """Return the trials on a dataset, or its spec, whose seeds give the draws, or on one
        problem.
        """
        if isinstance(problem, Problem):
            if loss not in (None, getattr(problem, "loss", None)):
                raise InvalidArgument(f"loss={loss!r}: the problem has its own loss; leave it out")
            made = _algorithm(algorithm, problem)
            return cls(
                lambda seed: problem, made, f"{type(problem).__name__}, {names.text(made)}", seeds=1
            )
        dataset: Any = names.make_dataset(problem) if isinstance(problem, str) else problem
        chosen = loss or dataset.losses[0]
        if chosen not in dataset.losses:
            raise InvalidArgument(
                f"loss={chosen!r} is unknown: {dataset.name} has {', '.join(dataset.losses)}"
            )

        def draw(seed: int) -> Problem:
            return dataclasses.replace(dataset, seed=seed).problem(chosen, device=device)

        made = _algorithm(algorithm, draw(0))
        return cls(draw, made, f"{names.text(dataset)}, {names.text(made)}, {chosen} loss")

    def problem(self, seed: int) -> Problem:
        """Return the problem of a seed."""
        return self._at(seed)[0]

    def reference(self, seed: int) -> Reference:
        """Return the reference of a seed; all seeds have the same target."""
        return self._at(seed)[1]

    def scorable(self, seeds: Sequence[int]) -> list[int]:
        """Return the seeds whose reference can be scored against."""
        return [seed for seed in seeds if self.reference(seed).status in SCORED]

    @property
    def repeat(self) -> bool:
        """Tell whether all seeds of a dataset draw one problem: the first two have the same
        gradient to the bit.
        """
        if self.seeds is not None or len(self.scorable((0, 1))) < 2:
            return False
        return torch.equal(self.reference(0).gradient, self.reference(1).gradient)

    def _at(self, seed: int) -> tuple[Problem, Reference]:
        if seed not in self._drawn:
            problem = self.draw(seed)
            self._drawn[seed] = problem, self._reference(problem)
        return self._drawn[seed]

    def _reference(self, problem: Problem) -> Reference:
        self._target = self._target or default_target(problem, self.algorithm)
        return reference(problem, self._target, self.algorithm)

    def errors(self, estimator: Any, seeds: Sequence[int], depths: Sequence[int]) -> np.ndarray:
        """Return the relative errors, shape (seeds, depths); infinite where there is none, and
        `failures` says why.
        """
        name = label(estimator)
        for seed in seeds:
            missing = tuple(
                sorted({depth for depth in depths if (name, seed, depth) not in self._errors})
            )
            problem, truth = self._at(seed)
            if missing:
                for depth, result in zip(
                    missing, attempt(estimator, problem, self.algorithm, missing), strict=True
                ):
                    self._errors[name, seed, depth] = self._judged(name, depth, result, truth)
        return np.array([[self._errors[name, seed, depth] for depth in depths] for seed in seeds])

    def _judged(self, name: str, depth: int, result: Any, truth: Reference) -> float:
        judged = result if isinstance(result, Score) else score(result, truth)
        if judged.status != "ok":
            self.failures.setdefault(name, f"{judged.status} at depth {depth}: {judged.reason}")
            return float("inf")
        return judged.relative_error
