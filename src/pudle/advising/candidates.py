"""What takes part: algorithms with estimators, single ones, and families whose number of windows or
terms is searched.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import MISSING, dataclass

from .. import names
from ..algorithms import Algorithm
from ..errors import InvalidArgument, PudleError
from ..estimator import GradientEstimator
from ..peers import Peer
from ..problems import Problem

#: Windows and terms that are tried.
NUMBERS = (2, 4, 8, 16, 32, 64, 128, 256, 512)


@dataclass(frozen=True)
class Candidate:
    """An estimator with an algorithm."""

    estimator: GradientEstimator
    algorithm: Algorithm

    @property
    def name(self) -> str:
        """The spec of the estimator."""
        return names.text(self.estimator)

    @property
    def window(self) -> int:
        """Layers that it differentiates, 0 if these are all or none."""
        return getattr(self.estimator, "window", None) or 0


def candidates(
    algorithms: Sequence[Algorithm], estimators: Iterable[str | GradientEstimator] = ()
) -> dict[Candidate, str]:
    """Return the estimators that take part with each of the algorithms, but none that
    differentiates layers with one that has none, and the kind of each: those of one kind differ in
    one number, such as the window of `truncated`, or in the algorithm.

    Without `estimators` these are all built-in ones and installed plug-ins whose claim is
    deterministic, but not other packages' twins of them. A name whose class needs one whole number,
    such as ``truncated``, stands for all `NUMBERS`.
    """
    classes = names.list_estimators()
    named = [*estimators]
    found = {}
    for each in named or [name for name, cls in classes.items() if not issubclass(cls, Peer)]:
        for spec in _members(each, classes.get(str(each))):
            # What nobody named is left out where it cannot be made.
            with suppress(*[] if named else [PudleError]):
                made = names.make_estimator(spec) if isinstance(spec, str) else spec
                if made.computes in ("stochastic", "heuristic"):
                    raise InvalidArgument(
                        f"estimator {names.text(made)!r} is {made.computes}: no error can be stated"
                        " for it; leave it out"
                    )
                layered = made.computes in ("unrolled", "truncated")
                for algorithm in algorithms:
                    if algorithm.differentiable or not layered:
                        found[Candidate(made, algorithm)] = str(each)
    return found


def _members(
    named: str | GradientEstimator, cls: type[GradientEstimator] | None
) -> list[str | GradientEstimator]:
    """Return the members of a family, or what is named itself."""
    needed = [one for one in names.options(cls) if one.default is one.default_factory is MISSING]
    if len(needed) == 1 and needed[0].type in (int, "int"):
        return [f"{named}({needed[0].name}={number})" for number in NUMBERS]
    return [named]


def suitable(problem: Problem) -> Iterator[Algorithm]:
    """Yield the registered algorithms that lead to the minimizer of a problem, its default one
    first.
    """
    for name in dict.fromkeys((problem.default_algorithm, *names.entries("algorithms"))):
        # What needs arguments, or refuses the problem, does not suit it.
        with suppress(Exception):
            algorithm = names.make_algorithm(name)
            algorithm.run(problem, 1)
            if algorithm.thresholding.proximal:
                yield algorithm
