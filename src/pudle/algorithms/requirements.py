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
class Requirement:
    """Something that an estimator or an algorithm needs of what it is called with.

    Attributes
    ----------
    need : str
        What is needed, as it follows "needs" in the refusal.
    found : callable
        ``found(problem, algorithm)`` says what is there in its place; None where the need is met.
    remedy : str
        What to do or to use; empty for what the estimator or the algorithm names in `instead`.
    """

    need: str
    found: Callable[[Problem, Algorithm], str | None]
    remedy: str = ""


def check_needs(
    who: str, needs: Iterable[Requirement], instead: str, problem: Problem, algorithm: Algorithm
) -> None:
    """Raise `UnsupportedProblem` in the name of `who` where a need is not met.

    Whoever needs it uses `instead` where the requirement has no remedy of its own.
    """
    for each in needs:
        if found := each.found(problem, algorithm):
            remedy = each.remedy or f"use {instead}"
            raise UnsupportedProblem.lacking(who, each.need, found, remedy)


def problem_of(kind: type, need: str) -> Requirement:
    """Return the requirement of a problem of some class, or of one derived from it."""
    return Requirement(
        need, lambda problem, _: None if isinstance(problem, kind) else type(problem).__name__
    )


#: Derivatives through the layers: those of a solver's decisions do not exist.
DIFFERENTIABLE_LAYERS = Requirement(
    "an algorithm whose layers are differentiated",
    lambda _, algorithm: None if algorithm.differentiable else algorithm.name,
    "use an implicit estimator such as analytic, or the algorithm ista",
)
#: What leads to the minimizer of the inner problem.
MINIMIZER = Requirement(
    "soft thresholding",
    lambda _, algorithm: None if (rule := algorithm.thresholding).proximal else rule.name,
)
DENSE_DICTIONARY = problem_of(SparseCoding, "sparse coding in a dense dictionary")
DENSE_LASSO = problem_of(DenseL1Problem, "an l1 norm and a dense matrix")
OWN_STEP = problem_of(FixedPoint, "a FixedPoint, which brings its step")
SMOOTH = problem_of(StronglyConvex, "a StronglyConvex, whose objective is smooth")
