"""Draws of a problem with their references, and the errors of estimators on them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from .. import names
from ..algorithms import Algorithm
from ..answers import Curve
from ..data import Dataset
from ..errors import InvalidArgument
from ..measuring.measurement import attempt
from ..measuring.scoring import Score, score
from ..problems import FixedPoint, Problem
from ..references.certified import SCORED, Reference, default_target, reference


def spec_of(estimator: Any) -> str:
    """Return the spec of an estimator, or the name of its class."""
    if isinstance(estimator, str):
        return estimator
    return names.text(estimator) if hasattr(estimator, "name") else type(estimator).__name__


@dataclass
class Draws:
    """Draws of one kind of problem, and the errors measured on them so far.

    Parameters
    ----------
    draw : callable
        Returns the problem of a seed.
    algorithm : Algorithm
    text : str
        The problem in words.
    single : bool
        Whether all seeds give the same problem.
    """

    draw: Callable[[int], Problem]
    algorithm: Algorithm
    text: str
    single: bool = False
    #: Why an estimator has no error somewhere, by its spec.
    failures: dict[str, str] = field(default_factory=dict)
    _drawn: dict[int, tuple[Problem, Reference]] = field(default_factory=dict, repr=False)
    _errors: dict[tuple[str, int], dict[int, float]] = field(default_factory=dict, repr=False)
    _target: str = ""

    @classmethod
    def of(
        cls,
        problem: Problem | Dataset | str,
        algorithm: Algorithm | str | None,
        loss: str | None = None,
        device: str = "cpu",
    ) -> Draws:
        """Return the draws of a dataset or its spec, one problem per seed, or of one problem."""
        made: Any = names.make_dataset(problem) if isinstance(problem, str) else problem
        if isinstance(made, Problem):
            if loss not in (None, getattr(made, "loss", None)):
                raise InvalidArgument(f"loss={loss!r}: the problem has its own loss; leave it out")
            unrolled = _algorithm(algorithm, made)
            text = f"{type(made).__name__}, {names.text(unrolled)}"
            return cls(lambda seed: made, unrolled, text, single=True)
        chosen = loss or made.losses[0]
        if chosen not in made.losses:
            has = ", ".join(made.losses)
            raise InvalidArgument(f"loss={chosen!r} is unknown: {made.name} has {has}")

        def draw(seed: int) -> Problem:
            return dataclasses.replace(made, seed=seed).problem(chosen, device=device)

        unrolled = _algorithm(algorithm, draw(0))
        draws = cls(draw, unrolled, f"{names.text(made)}, {names.text(unrolled)}, {chosen} loss")
        first, second = draws.reference(0), draws.reference(1)
        if {first.status, second.status} <= {*SCORED} and torch.equal(
            first.gradient, second.gradient
        ):
            draws.single = True
            draws.text += ", the same problem for every seed"
        return draws

    def problem(self, seed: int) -> Problem:
        """Return the problem of a seed."""
        return self._at(seed)[0]

    def reference(self, seed: int) -> Reference:
        """Return the reference of a seed; all seeds have the same target."""
        return self._at(seed)[1]

    def scorable(self, seeds: Iterable[int]) -> list[int]:
        """Return the seeds whose reference can be scored against; of one problem the first."""
        seeds = list(seeds)[:1] if self.single else seeds
        return [seed for seed in seeds if self.reference(seed).status in SCORED]

    def _at(self, seed: int) -> tuple[Problem, Reference]:
        if seed not in self._drawn:
            problem = self.draw(seed)
            self._target = self._target or default_target(problem, self.algorithm)
            self._drawn[seed] = problem, reference(problem, self._target, self.algorithm)
        return self._drawn[seed]

    def errors(self, estimator: Any, seeds: Sequence[int], depths: Sequence[int]) -> np.ndarray:
        """Return the relative errors, shape (depths, seeds); NaN where there is none, and
        `failures` says why.
        """
        spec, columns = spec_of(estimator), []
        for seed in seeds:
            errors = self._errors.setdefault((spec, seed), {})
            problem, truth = self._at(seed)
            missing = tuple(sorted({*depths} - errors.keys()))
            results = attempt(estimator, problem, self.algorithm, missing) if missing else ()
            for depth, result in zip(missing, results, strict=True):
                judged = result if isinstance(result, Score) else score(result, truth)
                if judged.status != "ok":
                    reason = f"{judged.status} at depth {depth}: {judged.reason}"
                    self.failures.setdefault(spec, reason)
                errors[depth] = judged.relative_error
            columns.append([errors[depth] for depth in depths])
        return np.array(columns).T

    def curve(self, estimator: Any, seeds: Sequence[int]) -> Curve:
        """Return the errors at all depths that were measured on all of some seeds."""
        measured = [self._errors.get((spec_of(estimator), seed), {}) for seed in seeds]
        depths = sorted(set.intersection(*map(set, measured)))
        values = np.array([[errors[depth] for errors in measured] for depth in depths])
        values = values.reshape(len(depths), len(seeds))
        # What fails on a seed is no answer at that depth.
        values[np.isnan(values).any(axis=1)] = math.nan
        return Curve(np.array(depths, int), np.array(seeds), values, np.zeros(values.shape, bool))


def _algorithm(algorithm: Algorithm | str | None, problem: Problem) -> Any:
    """Return an algorithm or the one that a spec names; by default ISTA, or a problem's own
    iteration.
    """
    if isinstance(algorithm, Algorithm):
        return algorithm
    default = "iteration" if isinstance(problem, FixedPoint) else "ista"
    return names.make_algorithm(algorithm or default)
