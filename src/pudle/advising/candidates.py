"""What takes part: algorithms with estimators, single ones, and families whose number of windows or
terms is searched.
"""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from .. import names
from ..algorithms import Algorithm
from ..errors import InvalidArgument, PudleError
from ..estimator import GradientEstimator
from ..peers import Peer

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
    classes, named = names.list_estimators(), list(estimators)
    own = [name for name, cls in classes.items() if not issubclass(cls, Peer)]
    chosen = {}
    for each in named or own:
        option, specs = "", [each]
        needed = names.options(classes.get(each)) if isinstance(each, str) else []
        needed = [field for field in needed if not names.has_default(field)]
        if len(needed) == 1 and needed[0].type in (int, "int"):
            option = needed[0].name
            specs = [f"{each}({option}={number})" for number in NUMBERS]
        for spec in specs:
            # What nobody named is left out where it cannot be made.
            with contextlib.suppress(*[] if named else [PudleError]):
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
