"""Draws of a problem with their references, and the errors of estimators on them."""

import contextlib
import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd
import torch

from .. import names
from ..algorithms import Algorithm
from ..data import Dataset
from ..measuring import costs as meter
from ..measuring.measurement import attempt
from ..measuring.scoring import Score, score
from ..problems import Problem
from ..references.certified import SCORED, Reference, default_target, reference
from ..validation import check_choice
from .candidates import Candidate


class Draws:
    """Draws of one kind of problem, and the errors measured on them so far.

    Parameters
    ----------
    problem : Dataset, str or Problem
        A dataset, or its spec, of which every seed draws a problem; or one problem.
    algorithm : Algorithm or str, optional
        By default all that are registered and lead to the problem's minimizer.
    loss : str, optional
        By default the dataset's first.
    device : {"cpu", "cuda"}

    Attributes
    ----------
    text : str
        The problem in words.
    single : bool
        Whether all seeds draw the same problem.
    algorithms : list of Algorithm
        Those that take part, the problem's default one first.
    failures : dict
        Why a candidate has no error somewhere.
    drawn : dict
        Problem and reference by seed.
    seconds : dict
        Times of single estimates, by candidate and depth.
    """

    def __init__(
        self,
        problem: Problem | Dataset | str,
        algorithm: Algorithm | str | None = None,
        loss: str | None = None,
        device: str = "cpu",
    ) -> None:
        made: Any = names.make_dataset(problem) if isinstance(problem, str) else problem
        self.single = isinstance(made, Problem)
        losses = [getattr(made, "loss", "")] if self.single else made.losses
        loss = check_choice("loss", loss or losses[0], losses)

        def draw(seed: int) -> Any:
            if isinstance(made, Problem):
                return made
            return dataclasses.replace(made, seed=seed).problem(loss, device=device)

        first = draw(0)
        if isinstance(algorithm, str):
            algorithm = names.make_algorithm(algorithm)
        self.algorithms: list[Any] = [algorithm] if algorithm else suitable(first)
        self.failures: dict[Candidate, str] = {}
        self.spec = problem if isinstance(problem, str) else ""
        self.drawn: dict[int, tuple[Any, Reference]] = {}
        self.seconds = defaultdict[tuple[Candidate, int], list[float]](list)
        self._draw, self._errors = draw, dict[tuple[Candidate, int], dict[int, float]]()
        self._target = default_target(first, self.algorithms[0])
        self.text = type(made).__name__ if self.single else f"{names.text(made)}, {loss} loss"
        if algorithm:
            self.text = f"{self.text}, {names.text(algorithm)}"
        if not self.single:
            scored = [self.reference(seed).gradient for seed in self.scorable((0, 1))]
            if len(scored) == 2 and torch.equal(*scored):
                self.single, self.text = True, f"{self.text}, the same problem for every seed"

    def problem(self, seed: int) -> Any:
        """Return the problem of a seed."""
        self.reference(seed)
        return self.drawn[seed][0]

    def reference(self, seed: int) -> Reference:
        """Return the reference of a seed; all seeds have the same target."""
        if seed not in self.drawn:
            problem = self._draw(seed)
            found = reference(problem, self._target, self.algorithms[0])
            self.drawn[seed] = problem, found.of_spec(self.spec) if self.spec else found
        return self.drawn[seed][1]

    def scorable(self, seeds: Iterable[int]) -> list[int]:
        """Return the seeds whose reference can be scored against; of one problem the first."""
        seeds = [0] if self.single else seeds
        return [seed for seed in seeds if self.reference(seed).status in SCORED]

    def errors(
        self, candidate: Candidate, seeds: Sequence[int], depths: Iterable[int] = ()
    ) -> pd.DataFrame:
        """Return all relative errors by depth and seed, after some depths are measured where they
        are not yet; NaN where there is none, and `failures` says why.
        """
        depths, pair = set(depths), (candidate.estimator, candidate.algorithm)
        for seed in seeds:
            errors = self._errors.setdefault((candidate, seed), {})
            missing = tuple(sorted(depths - errors.keys()))
            results = attempt(pair[0], self.problem(seed), pair[1], missing)
            clock = meter.clock(self.problem(seed).theta.device.type)
            start = clock()
            for depth, result in zip(missing, results, strict=True):
                if len(missing) == 1:
                    self.seconds[candidate, depth].append(clock() - start)
                judged = result
                if not isinstance(judged, Score):
                    judged = score(judged, self.reference(seed))
                if judged.status != "ok":
                    reason = f"{judged.status} at depth {depth}: {judged.reason}"
                    self.failures.setdefault(candidate, reason)
                errors[depth] = judged.relative_error
        rows = {seed: self._errors[candidate, seed] for seed in seeds}
        return pd.DataFrame(rows, dtype=float).sort_index()


def suitable(problem: Problem) -> list[Algorithm]:
    """Return the registered algorithms that lead to the minimizer of a problem, its default one
    first.
    """
    made = {}
    for name in dict.fromkeys((problem.default_algorithm, *names.entries("algorithms"))):
        # What needs arguments, or refuses the problem, does not suit it.
        with contextlib.suppress(Exception):
            algorithm = names.make_algorithm(name)
            algorithm.run(problem, 1)
            if algorithm.thresholding.proximal:
                made[name] = algorithm
    return [*made.values()]
