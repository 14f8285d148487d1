"""What an estimator is: one abstract method, one returned record."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor

from .algorithms import Algorithm
from .problems import Problem

#: What an estimator may claim to compute; `pudle.GradientEstimator.computes` names one of these.
CLAIMS = {
    "direct": "partial_theta loss(z_T, theta), codes held constant",
    "unrolled": "the exact derivative of theta -> loss(z_T(theta), theta)",
    "truncated": "the same with the derivative cut before the last few layers",
    "implicit": "the implicit function theorem at z_T",
    "stochastic": "a random vector whose mean is one of the above",
    "heuristic": "a descent direction from the literature that is the gradient of no loss",
}


@dataclass(frozen=True, eq=False)
class Estimate:
    """What an estimator returns.

    Attributes
    ----------
    gradient : Tensor
        Shape, dtype and device of the problem's theta, without a graph.
    codes : Tensor
        The codes z_T the gradient was taken at.
    diagnostics : mapping
        Counts and conditions: ``layers`` evaluated forward, ``layers_differentiated``, ``solves``,
        ``condition_number`` ...
    """

    gradient: Tensor
    codes: Tensor
    diagnostics: Mapping[str, Any] = field(default_factory=dict)


class GradientEstimator(ABC):
    """An estimator of the gradient of ``theta -> loss(z(theta), theta)``.

    A concrete estimator sets `name` and `computes`, keeps its options as frozen dataclass fields, and implements
    `estimate`. Everything else has a default.

    Attributes
    ----------
    name : str
        How specs, tables and files call it.
    aliases : tuple of str
        What the literature calls it; specs accept these as well.
    references : tuple of str
        Where it comes from.
    computes : str
        One of the keys of `CLAIMS`; tests hold the estimator to it.
    consistent_for : tuple of str or None
        The losses for which its error vanishes with depth; None means all.
    """

    name: ClassVar[str]
    aliases: ClassVar[tuple[str, ...]] = ()
    references: ClassVar[tuple[str, ...]] = ()
    computes: ClassVar[str]
    consistent_for: ClassVar[tuple[str, ...] | None] = None

    @abstractmethod
    def estimate(self, problem: Problem, algorithm: Algorithm, depth: int) -> Estimate:
        """Estimate the gradient from `depth` layers of `algorithm` on `problem`.

        Raises
        ------
        UnsupportedProblem
            If the estimator cannot treat this problem; the text says what is missing and what to use instead.
        """

    def fingerprint(self) -> str:
        """Return what the results depend on beside the class's own source, such as versions of a library it calls.

        Stored results are found again only where this is unchanged.
        """
        return ""

    def sweep(self, problem: Problem, algorithm: Algorithm, depths: Sequence[int]) -> Iterator[Estimate]:
        """Yield the estimate at each depth, in the order given; overridden where depths can share work."""
        for depth in depths:
            yield self.estimate(problem, algorithm, depth)
