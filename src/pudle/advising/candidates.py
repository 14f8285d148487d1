"""What takes part: algorithms with estimators, single ones, and families whose number of windows or
terms is searched.
"""

from collections.abc import Iterator, Sequence
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
    algorithms: Sequence[Algorithm], estimators: Sequence[str | GradientEstimator] = ()
) -> dict[Candidate, str]:
    """Return the estimators that take part with each of the algorithms, and the kind of each: those
    of one kind differ in one number, such as the window of `truncated`, or in the algorithm.

    Without `estimators` these are all built-in ones and installed plug-ins whose claim is
    deterministic, but not other packages' twins of them. A name whose class needs one whole number,
    such as ``truncated``, stands for all `NUMBERS`.
    """
    classes = names.list_estimators()
    every = [name for name, cls in classes.items() if not issubclass(cls, Peer)]
    found: dict[Candidate, str] = {}
    for kind in estimators or every:
        needed = [
            each
            for each in names.options(classes.get(str(kind)))
            if each.default is each.default_factory is MISSING
        ]
        members = [kind]
        if len(needed) == 1 and needed[0].type in (int, "int"):
            members = [f"{kind}({needed[0].name}={number})" for number in NUMBERS]
        for member in members:
            # What nobody named is left out where it cannot be made.
            with suppress(*[] if estimators else [PudleError]):
                made = names.canonical("estimators", member)
                if made.made.computes in ("stochastic", "heuristic"):
                    raise InvalidArgument(
                        f"estimator {str(made)!r} is {made.made.computes}: no error can be stated"
                        " for it; leave it out"
                    )
                found |= {Candidate(made.made, rule): str(kind) for rule in algorithms}
    return found


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
