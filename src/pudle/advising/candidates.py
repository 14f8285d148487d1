"""The candidates of an advice: which estimators and which algorithms take part."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import MISSING, dataclass

from .. import names
from ..algorithms import Algorithm
from ..errors import InvalidArgument, PudleError
from ..estimator import GradientEstimator
from ..measuring.check_results import FAILED, check_status, key_of
from ..peers import Peer
from ..problems import Problem

#: Windows and numbers of terms that are tried.
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


def list_candidates(
    algorithms: Sequence[Algorithm], estimators: Sequence[str | GradientEstimator] = ()
) -> list[Candidate]:
    """List the estimators that take part, with each of the algorithms: all pairs, equal specs once.

    Without `estimators` these are all built-in ones and installed plug-ins whose claim is
    deterministic, but not other packages' twins of them. A name whose class needs one whole number,
    such as ``truncated``, stands for all `NUMBERS`. Plug-ins and users' files are imported, and the
    user's cache of check results is read.

    Raises
    ------
    InvalidArgument
        If one of `estimators` cannot be made, if no error can be stated for it, or if it failed
        `pudle check`. Those that nobody asked for are left out instead.
    """
    requested: list[str | GradientEstimator] = [*estimators] or [*_installed_estimators()]
    by_spec: dict[str, GradientEstimator] = {}
    for estimator in requested:
        for member in _family(estimator):
            try:
                spec = names.canonical("estimators", member)
                _check_suitable(str(spec), spec.made)
            except PudleError:
                if estimators:
                    raise
                continue
            by_spec[spec] = spec.made
    return [
        Candidate(estimator, algorithm)
        for algorithm in algorithms
        for estimator in by_spec.values()
    ]


def _installed_estimators() -> Iterator[str]:
    """Yield the names of all built-in estimators and plug-ins but other packages' twins of them."""
    for name, estimator_class in names.list_estimators().items():
        if not issubclass(estimator_class, Peer):
            yield name


def _family(estimator: str | GradientEstimator) -> list[str | GradientEstimator]:
    """List the members that a name stands for: one for each of `NUMBERS` where its class needs one
    whole number and no other argument, else itself.
    """
    fields = names.options(names.list_estimators().get(str(estimator)))
    required = [field for field in fields if field.default is field.default_factory is MISSING]
    if len(required) == 1 and required[0].type in (int, "int"):
        return [f"{estimator}({required[0].name}={number})" for number in NUMBERS]
    return [estimator]


def _check_suitable(spec: str, estimator: GradientEstimator) -> None:
    """Raise InvalidArgument for an estimator whose claim is stochastic or heuristic, and for a
    plug-in that failed `pudle check`.
    """
    if estimator.computes in ("stochastic", "heuristic"):
        raise InvalidArgument(
            f"estimator {spec!r} is {estimator.computes}: no error can be stated for it; leave it"
            " out"
        )
    if names.is_plugin(type(estimator)) and check_status(key_of(estimator)) == FAILED:
        raise InvalidArgument(
            f"estimator {spec!r} failed `pudle check`: mend what it names, or leave the estimator"
            " out"
        )


def suitable_algorithms(problem: Problem) -> Iterator[Algorithm]:
    """Yield the registered algorithms that lead to the minimizer of a problem, its default one
    first; where that is made for such problems, others that are not would do the same.

    Each is tried with one layer; what fails is left out.
    """
    default_is_special = bool(names.make_algorithm(problem.default_algorithm).needs)
    for name in dict.fromkeys((problem.default_algorithm, *names.entries("algorithms"))):
        # What needs arguments, or refuses the problem, does not suit it.
        with suppress(Exception):
            algorithm = names.make_algorithm(name)
            algorithm.run(problem, 1)
            if algorithm.thresholding.proximal and (algorithm.needs or not default_is_special):
                yield algorithm
