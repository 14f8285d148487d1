"""What takes part: algorithms with estimators, single ones, and families whose number of windows or
terms is searched; and their errors on draws of a problem, with references.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import MISSING, dataclass, field, replace
from typing import Any

import pandas as pd
import torch

from .. import names
from ..algorithms import Algorithm
from ..data import Dataset
from ..errors import InvalidArgument, PudleError
from ..estimator import GradientEstimator
from ..measuring import costs as meter
from ..measuring.measurement import attempt
from ..measuring.scoring import Score, score
from ..peers import Peer
from ..problems import Problem
from ..references.certified import SCORED, Reference, default_target, reference
from ..validation import check_choice

#: Claims for which no error can be required: their errors are those of a random draw, or of no
#: gradient.
NOT_ADVISED = ("stochastic", "heuristic")
#: Claims of what differentiates layers.
LAYERED = ("unrolled", "truncated")
#: Windows and terms that are tried.
NUMBERS = (2, 4, 8, 16, 32, 64, 128, 256, 512)


@dataclass(frozen=True)
class Candidate:
    """An estimator with an algorithm; those of one `kind` differ in one number, such as the window
    of `truncated`, or in the algorithm.
    """

    estimator: GradientEstimator
    algorithm: Algorithm
    kind: str = field(default="", compare=False)
    #: Layers that a member of a truncated family differentiates, 0 for any other.
    window: int = field(default=0, compare=False)

    @property
    def name(self) -> str:
        """The spec of the estimator."""
        return names.text(self.estimator)


def candidates(
    algorithms: Iterable[Algorithm], estimators: Iterable[str | GradientEstimator] = ()
) -> list[Candidate]:
    """Return the estimators that take part with each of the algorithms, but none that
    differentiates layers with one that has none.

    Without `estimators` these are all built-in ones and installed plug-ins whose claim is
    deterministic, but not other packages' twins of them. A name whose class needs one whole number,
    such as ``truncated``, stands for all `NUMBERS`.
    """
    classes: Any = names.list_estimators()
    named = list(estimators)
    own = [name for name, cls in classes.items() if not issubclass(cls, Peer)]
    chosen = {}
    for each in named or own:
        option, specs = "", [each]
        stated = names.options(classes.get(each))
        needed = [one for one in stated if one.default is one.default_factory is MISSING]
        if len(needed) == 1 and needed[0].type in (int, "int"):
            option = needed[0].name
            specs = [f"{each}({option}={number})" for number in NUMBERS]
        for spec in specs:
            # What nobody named is left out where it cannot be made.
            with suppress(*[] if named else [PudleError]):
                made = names.make_estimator(spec) if isinstance(spec, str) else spec
                name = names.text(made)
                if made.computes in NOT_ADVISED:
                    raise InvalidArgument(
                        f"estimator {name!r} is {made.computes}: no error can be stated for it;"
                        " leave it out"
                    )
                window = getattr(made, option, 0) if made.computes == "truncated" else 0
                chosen[name] = made, str(each) if option else name, window
    return [
        Candidate(made, algorithm, kind, window)
        for algorithm in algorithms
        for made, kind, window in chosen.values()
        if algorithm.differentiable or made.computes not in LAYERED
    ]


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
            return replace(made, seed=seed).problem(loss, device=device)

        first = draw(0)
        if isinstance(algorithm, str):
            algorithm = names.make_algorithm(algorithm)
        self.algorithms: list[Any] = [algorithm] if algorithm else suitable(first)
        self.failures: dict[Candidate, str] = {}
        self.spec = problem if isinstance(problem, str) else ""
        self.drawn: dict[int, tuple[Any, Reference]] = {}
        self.seconds = defaultdict[tuple[Candidate, int], list[float]](list)
        self._draw, self._errors = draw, defaultdict[Any, dict[int, float]](dict)
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
        for seed in seeds:
            problem, errors = self.problem(seed), self._errors[candidate, seed]
            missing = tuple(sorted({*depths} - errors.keys()))
            results = attempt(candidate.estimator, problem, candidate.algorithm, missing)
            clock = meter.clock(problem.theta.device.type)
            start = clock()
            for depth, judged in zip(missing, results, strict=True):
                if len(missing) == 1:
                    self.seconds[candidate, depth].append(clock() - start)
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
    made = []
    for name in dict.fromkeys((problem.default_algorithm, *names.entries("algorithms"))):
        # What needs arguments, or refuses the problem, does not suit it.
        with suppress(Exception):
            algorithm = names.make_algorithm(name)
            algorithm.run(problem, 1)
            if algorithm.thresholding.proximal:
                made.append(algorithm)
    return made
