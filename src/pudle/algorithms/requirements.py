"""What estimators and algorithms need of a problem and an algorithm: they declare it in `needs`,
and are refused in one way where something else is found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import UnsupportedProblem
from ..problems import FixedPoint, Problem, SparseCoding, StronglyConvex
from ..problems.l1 import DenseL1Problem

if TYPE_CHECKING:
    from .algorithm import Algorithm


@dataclass(frozen=True)
class Need:
    """Something that an estimator or an algorithm needs of what it is called with.

    Attributes
    ----------
    description : str
        What is needed, as it follows "needs" in the refusal.
    unmet_by : callable
        ``unmet_by(problem, algorithm)`` names what is there in its place; None where the need is
        met.
    remedy : str
        What to do or to use; empty for what the estimator or the algorithm names in `instead`.
    """

    description: str
    unmet_by: Callable[[Problem, Algorithm], str | None]
    remedy: str = ""


def check_needs(
    who: str, needs: Iterable[Need], instead: str, problem: Problem, algorithm: Algorithm
) -> None:
    """Raise `UnsupportedProblem` in the name of `who` for the first need that is not met.

    The remedy is ``use INSTEAD`` where a need has none of its own.
    """
    for need in needs:
        if substitute := need.unmet_by(problem, algorithm):
            remedy = need.remedy or f"use {instead}"
            raise UnsupportedProblem.lacking(who, need.description, substitute, remedy)


def problem_of(kind: type, description: str) -> Need:
    """Return the need of a problem of some class, or of one derived from it; the remedy is what the
    estimator or the algorithm names.
    """
    return Need(
        description,
        lambda problem, _: None if isinstance(problem, kind) else type(problem).__name__,
    )


#: Derivatives through the layers: those of a solver's decisions do not exist.
DIFFERENTIABLE_LAYERS = Need(
    "an algorithm whose layers are differentiated",
    lambda _, algorithm: None if algorithm.differentiable else algorithm.name,
    "use an implicit estimator such as analytic, or the algorithm ista",
)
#: What leads to the minimizer of the inner problem.
MINIMIZER = Need(
    "soft thresholding",
    lambda _, algorithm: None if (rule := algorithm.thresholding).proximal else rule.name,
)
DENSE_DICTIONARY = problem_of(SparseCoding, "sparse coding in a dense dictionary")
DENSE_LASSO = problem_of(DenseL1Problem, "an l1 norm and a dense matrix")
OWN_STEP = problem_of(FixedPoint, "a FixedPoint, which brings its step")
SMOOTH = problem_of(StronglyConvex, "a StronglyConvex, whose objective is smooth")
