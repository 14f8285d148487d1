"""The contract of a gradient estimator, bases that share one forward pass among depths, and
gradients of a mean over more samples than memory holds, batch by batch.
"""

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor

from .algorithms import Algorithm as Algorithm
from .algorithms import State as State
from .algorithms.requirements import DIFFERENTIABLE_LAYERS, Need, check_needs
from .algorithms.unrolling import (
    check_depths,
    differentiable,
    direct_gradients,
    gradients,
    losses_at,
    segment_of,
    unrolled_gradients,
)
from .algorithms.unrolling import through_minimizer as through_minimizer
from .errors import InvalidArgument, UnsupportedProblem
from .problems import Problem as Problem
from .short_repr import short_repr
from .threads import threads_for
from .validation import CheckedOptions as CheckedOptions
from .validation import check_integer, plain_tensor

#: What an estimator may claim to compute; `GradientEstimator.computes` names one of these.
CLAIMS = {
    "direct": "partial_theta loss(z_T, theta), codes held constant",
    "unrolled": "the exact derivative of theta -> loss(z_T(theta), theta)",
    "truncated": "the same with the derivative cut before the last few layers",
    "implicit": "the implicit function theorem at z_T",
    "stochastic": "a random vector whose mean is one of the above",
    "approximate": "an approximation of one of the above, whose distance from them is measured",
    "heuristic": "a descent direction from the literature that is the gradient of no loss",
}

#: The gradients that an approximation may tend to; `GradientEstimator.approaches` names some.
TARGETS = {
    "exact": "the gradient at the minimizer or the fixed point",
    "unrolled": CLAIMS["unrolled"],
    "implicit": CLAIMS["implicit"],
    "direct": CLAIMS["direct"],
}

#: What an estimator needs by its claim, unless it declares `needs` of its own.
NEEDS = {claim: (DIFFERENTIABLE_LAYERS,) for claim in ("unrolled", "truncated")}

#: What a method returns.
Returned = TypeVar("Returned")
#: Numbers about an estimate, by name.
Diagnostics = Mapping[str, float]
#: A gradient, or one part of it, with its diagnostics, and maybe the adjoint that led to it.
Contribution = tuple[Tensor, Diagnostics, *tuple[Tensor, ...]]


@dataclass(frozen=True, eq=False, repr=False)
class Estimate:
    """The result of an estimator.

    Attributes
    ----------
    gradient : Tensor
        Shape, dtype and device of the problem's theta, without a graph.
    codes : Tensor
        The codes z_T at which the gradient was taken.
    diagnostics : mapping
        Counts and conditions: ``layers`` evaluated forward, ``layers_differentiated``, ``solves``,
        ``condition_number`` ...
    adjoint : Tensor, optional
        The solution of the adjoint system that an implicit estimator has solved, shape of the
        codes: a start for the next such system, where the estimator takes one.
    """

    gradient: Tensor
    codes: Tensor
    diagnostics: Diagnostics = field(default_factory=dict)
    adjoint: Tensor | None = None

    def __post_init__(self) -> None:
        """Make the tensors plain ones: what computes with them trusts torch's methods."""
        for name in ("gradient", "codes", "adjoint"):
            object.__setattr__(self, name, plain_tensor(getattr(self, name)))

    __repr__ = short_repr


class GradientEstimator(ABC):
    """An estimator of the gradient of ``theta -> loss(z(theta), theta)``, also called the
    hypergradient.

    A concrete estimator sets `name` and `computes`, keeps its options as frozen dataclass fields,
    and implements `estimate`. Everything else has a default.

    Attributes
    ----------
    name : str
        The name in specs, tables and files.
    aliases : tuple of str
        Names in the literature; specs accept these as well.
    references : tuple of str
        The publications that describe the method.
    computes : str
        The claim, one of the keys of `CLAIMS`; `pudle check` tests it.
    consistent_for : tuple of str or None
        The losses for which the error vanishes with depth; None means all.
    approaches : mapping
        What an approximate estimator tends to, one of the keys of `TARGETS`, with the options at
        which it is that gradient up to 1e-6: ``{"implicit": {"terms": 1000}}``.
    needs : tuple of Need
        What it needs of a problem and an algorithm, from `pudle.algorithms.requirements`; by
        default what its claim needs. A call without is refused before the estimator sees it.
    instead : str
        The estimator to use where these do not offer it.
    """

    name: ClassVar[str]
    aliases: ClassVar[tuple[str, ...]] = ()
    references: ClassVar[tuple[str, ...]] = ()
    computes: ClassVar[str]
    consistent_for: ClassVar[tuple[str, ...] | None] = None
    approaches: ClassVar[Mapping[str, Mapping[str, object]]] = {}
    instead: ClassVar[str] = "backprop"

    @property
    def needs(self) -> tuple[Need, ...]:
        return NEEDS.get(getattr(self, "computes", ""), ())

    def __init_subclass__(cls, **options: object) -> None:
        """Let the methods of a subclass refuse what it cannot treat, before its own code runs."""
        super().__init_subclass__(**options)
        for name in {"estimate", "sweep"} & vars(cls).keys():
            method = _refusing_unsupported(getattr(cls, name))
            setattr(
                cls,
                name,
                _sweeping_in_one_thread(method)
                if name == "sweep"
                else _estimating_in_one_thread(method),
            )

    def check_supported(self, problem: Problem, algorithm: Algorithm) -> None:
        """Raise `UnsupportedProblem` where the estimator cannot treat this.

        The base knows what is declared, and every call of `estimate` and `sweep` comes here first.
        An estimator that has other reasons adds them, such as a budget.
        """
        algorithm.check_supported(problem)
        # A class in the making may have no name yet.
        who = getattr(self, "name", type(self).__name__)
        check_needs(who, self.needs, self.instead, problem, algorithm)

    @abstractmethod
    def estimate(self, problem: Problem, algorithm: Algorithm, depth: int) -> Estimate:
        """Estimate the gradient from `depth` layers of `algorithm` on `problem`, neither of which
        it changes.

        Raises
        ------
        UnsupportedProblem
            If the estimator cannot treat this problem; the text says what is missing and what to
            use instead.
        InvalidArgument
            If the depth is no whole number of at least 0, or the algorithm's step is too large.
        """

    def sweep(
        self, problem: Problem, algorithm: Algorithm, depths: Sequence[int]
    ) -> Iterator[Estimate]:
        """Yield the estimate at each depth, in the order given.

        By default `estimate` is called for each, and nothing is shared; override this where depths
        can share work.
        """
        for depth in depths:
            yield self.estimate(problem, algorithm, depth)

    @torch.enable_grad()
    def layer_vector_jacobian_product(
        self, problem: Problem, algorithm: Algorithm, codes: Tensor, vector: Tensor, layer: int = 0
    ) -> tuple[Tensor, Tensor]:
        r"""Return :math:`(\partial_\theta \Phi)^\top v` and :math:`(\partial_z \Phi)^\top v` of one
        layer :math:`\Phi(z, \theta)`, without a graph.

        Parameters
        ----------
        codes : Tensor
            The codes z that enter the layer.
        vector : Tensor
            The vector v, with the shape of the codes.
        layer : int
            How many layers were run before, which a decaying threshold depends on.
        """
        step = algorithm.step_size(problem)
        live, theta = differentiable(problem)
        leaf = codes.detach().requires_grad_()
        image = algorithm.plain_layer(live, leaf, step, layer)
        # A layer need not depend on theta where all codes are thresholded.
        by_theta, by_codes = gradients(image, (theta, leaf), vector.detach())
        return by_theta, by_codes

    def fingerprint(self) -> str:
        """Return a text of all that results depend on besides the source code: a library's version.

        Stored results are computed again when this changes.
        """
        return ""


def _refusing_unsupported(method: Callable[..., Returned]) -> Callable[..., Returned]:
    """Return an `estimate` or a `sweep` that first calls `check_supported`, which raises
    `UnsupportedProblem` for what its estimator cannot treat.
    """

    @functools.wraps(method)
    def checked(
        self: GradientEstimator, problem: Problem, algorithm: Algorithm, *args: Any, **kwargs: Any
    ) -> Returned:
        self.check_supported(problem, algorithm)
        return method(self, problem, algorithm, *args, **kwargs)

    return checked


def _estimating_in_one_thread(method: Callable[..., Returned]) -> Callable[..., Returned]:
    """Return an `estimate` in which torch's operations on small tensors take one thread; the number
    of before is set back afterwards.
    """

    @functools.wraps(method)
    def estimating(
        self: GradientEstimator,
        problem: Problem,
        algorithm: Algorithm,
        *arguments: Any,
        **options: Any,
    ) -> Returned:
        with _threads_for(problem):
            return method(self, problem, algorithm, *arguments, **options)

    return estimating


def _sweeping_in_one_thread(
    method: Callable[..., Iterable[Returned]],
) -> Callable[..., Iterator[Returned]]:
    """Return a `sweep` in which each estimate is computed with torch's operations on small tensors
    in one thread.

    The caller's own work between two estimates takes as many threads as before. What cannot be
    treated is refused when `sweep` is called, not at the first estimate.
    """

    @functools.wraps(method)
    def sweeping(
        self: GradientEstimator,
        problem: Problem,
        algorithm: Algorithm,
        *arguments: Any,
        **options: Any,
    ) -> Iterator[Returned]:
        # What cannot be treated is refused at once.
        with _threads_for(problem):
            results = iter(method(self, problem, algorithm, *arguments, **options))
        return estimates(problem, results)

    def estimates(problem: Problem, results: Iterator[Returned]) -> Iterator[Returned]:
        """Yield the results, each computed with its threads; those of the caller are back in
        between.
        """
        while True:
            with _threads_for(problem):
                try:
                    result = next(results)
                except StopIteration:
                    return
            yield result

    return sweeping


def _threads_for(problem: Problem) -> AbstractContextManager[None]:
    """Return the context for torch's operations on a problem: one thread if its tensors are small.

    It changes nothing for a problem on another device, or one without `observations`: of what
    users' functions compute the size is not known.
    """
    observations = getattr(problem, "observations", None)
    if not isinstance(observations, Tensor) or observations.device.type != "cpu":
        return nullcontext()
    codes = math.prod(problem.code_shape)
    return threads_for(max(codes, observations.numel(), problem.theta.numel()))


class SweepEstimator(GradientEstimator):
    """An estimator that implements `sweep`; a single depth is a sweep of length one."""

    def estimate(self, problem: Problem, algorithm: Algorithm, depth: int) -> Estimate:
        return next(self.sweep(problem, algorithm, [depth]))


class CodesEstimator(SweepEstimator):
    """An estimator that starts from the codes z_T, which one forward pass without a graph gives for
    all depths.
    """

    @abstractmethod
    def gradients_at(
        self, problem: Problem, algorithm: Algorithm, states: list[State]
    ) -> Iterator[Contribution]:
        """Yield the gradient and the diagnostics at each state, which holds a depth T as its
        iteration, and the codes z_T.

        The diagnostics ``layers`` and ``layers_differentiated`` are T and zero unless given.
        """

    def sweep(
        self, problem: Problem, algorithm: Algorithm, depths: Sequence[int]
    ) -> Iterator[Estimate]:
        """Run the algorithm once, to the deepest depth and without a graph, and yield the estimate
        at each depth.

        The diagnostics are the algorithm's own (`Algorithm.diagnose`), and those of `gradients_at`,
        which go first.
        """
        depths = check_depths(depths)
        if not depths:
            return
        with torch.no_grad():
            trajectory = algorithm.run(problem, max(depths), keep=depths)
        states = [State(codes := trajectory.at(depth), codes, iteration=depth) for depth in depths]
        for state, (gradient, diagnostics, *adjoint) in zip(
            states, self.gradients_at(problem, algorithm, states), strict=True
        ):
            about = {
                "layers": state.iteration,
                "layers_differentiated": 0,
                **algorithm.diagnose(problem, trajectory.states[state.iteration]),
                **diagnostics,
            }
            yield Estimate(gradient, state.codes, about, *adjoint)


class ImplicitEstimator(CodesEstimator):
    r"""An estimator :math:`g = \partial_\theta \ell + J^\top \partial_z \ell` that finds J from the
    codes z_T alone.
    """

    @abstractmethod
    def through_codes(
        self, problem: Problem, algorithm: Algorithm, state: State, code_gradient: Tensor
    ) -> Contribution:
        """Return ``J^T partial_z loss``, shape of theta, and the diagnostics; `code_gradient` is
        ``partial_z loss``.
        """

    def gradients_at(
        self, problem: Problem, algorithm: Algorithm, states: list[State]
    ) -> Iterator[Contribution]:
        """Yield at each state the direct gradient plus the one through the codes, with the
        diagnostics of `through_codes`, and the adjoint where it returns one.
        """
        for state in states:
            direct, code_gradient = direct_gradients(problem, state.codes)
            through_codes, diagnostics, *adjoint = self.through_codes(
                problem, algorithm, state, code_gradient
            )
            yield direct + through_codes, diagnostics, *adjoint


class ActiveSystemEstimator(ImplicitEstimator):
    r"""An implicit estimator that solves :math:`H_{SS} v_S = (\partial_z \ell)_S` on the active set
    S of the codes, H the derivative of the gradient F of the inner objective.
    """

    def solve(self, problem: Problem, codes: Tensor, right_hand_side: Tensor) -> Contribution:
        """Return v, shape of the codes and zero off S, and the diagnostics; the exact solution
        unless overridden.
        """
        solution, diagnostics = problem.solve_active(codes, right_hand_side)
        return solution, {"solves": len(codes)} | diagnostics

    def through_codes(
        self, problem: Problem, algorithm: Algorithm, state: State, code_gradient: Tensor
    ) -> Contribution:
        """Solve the system on the active set, and return the gradient through the minimizer with
        the solution v as adjoint.
        """
        solution, diagnostics, *_ = self.solve(problem, state.codes, code_gradient)
        return through_minimizer(problem, state.codes, solution), diagnostics, solution


class SmoothingEstimator(CodesEstimator):
    r"""The mean over antithetic pairs of central differences of the loss after T layers, along
    Gaussian perturbations of theta.

    A concrete class has as fields the number of pairs and the width of the perturbations, and maybe
    a window: the number of layers after which theta is perturbed anew. ``standard_error`` in the
    diagnostics, given for two pairs or more, is that of the whole vector (Frobenius norm),
    estimated from the pairs.
    """

    samples: int
    scale: float
    window: int | None = None

    @abstractmethod
    def generators(self) -> Iterator[np.random.Generator]:
        """Yield the random generator of each pair."""

    @torch.no_grad()
    def gradients_at(
        self, problem: Problem, algorithm: Algorithm, states: list[State]
    ) -> Iterator[Contribution]:
        """Yield the mean of the pairs' estimates at each depth; all depths share the same
        perturbations, from `generators`.

        The diagnostics are ``layers``, ``evaluations`` and, for two pairs or more,
        ``standard_error``.
        """
        theta, depths = problem.theta.detach(), [state.iteration for state in states]
        segments = [segment_of(depth, self.window) for depth in depths]
        total, squares = theta.new_zeros(len(depths), *theta.shape), theta.new_zeros(len(depths))
        for _, random in zip(range(self.samples), self.generators(), strict=False):
            drawn = theta.new_tensor(random.standard_normal((max(segments) + 1, *theta.shape)))
            above, below = (
                losses_at(problem, algorithm, theta + scale * drawn, depths, self.window)
                for scale in (self.scale, -self.scale)
            )
            slopes = ((above - below) / (2 * self.scale)).reshape(-1, *(1,) * theta.ndim)
            pairs = slopes * drawn.cumsum(0)[segments]
            total += pairs
            squares += pairs.reshape(len(depths), -1).square().sum(1)
        means = (total / self.samples).unbind()
        for depth, mean, square in zip(depths, means, squares / self.samples, strict=True):
            work: dict[str, float] = {
                "layers": depth * (2 * self.samples + 1),
                "evaluations": 2 * self.samples,
            }
            if self.samples > 1:
                # Rounding can make the variance of equal pairs negative.
                variance = (square - mean.square().sum()).clamp(min=0)
                work["standard_error"] = float((variance / (self.samples - 1)).sqrt())
            yield mean, work


class WindowEstimator(SweepEstimator):
    """Backpropagation through the last `window` layers, or all if None; the codes that enter them
    are held constant.
    """

    window: int | None

    def sweep(
        self, problem: Problem, algorithm: Algorithm, depths: Sequence[int]
    ) -> Iterator[Estimate]:
        """Yield the gradient at each depth, with the diagnostics ``layers`` and
        ``layers_differentiated``; all share the layers before their windows, or without a window
        one forward pass.
        """
        results = unrolled_gradients(problem, algorithm, depths, self.window)
        for depth, result in zip(depths, results, strict=True):
            differentiated = min(self.window or depth, depth)
            yield Estimate(*result, {"layers": depth, "layers_differentiated": differentiated})


@dataclass(frozen=True, eq=False)
class MeanEstimate:
    """The estimate of a gradient over all samples of several problems.

    Attributes
    ----------
    gradient : Tensor
        Shape of theta: the mean over all samples.
    loss : float
        Mean of the outer loss at the codes.
    samples, batches : int
        Numbers of samples and of problems.
    """

    gradient: Tensor
    loss: float
    samples: int
    batches: int


def split(problem: Problem, size: int) -> Iterator[Problem]:
    """Yield problems of at most `size` samples each, which together have the samples of one
    problem, in order.

    They share the memory of its tensors. Errors are raised when the first one is asked for.

    Raises
    ------
    InvalidArgument
        If `size` is no whole number of at least 1.
    UnsupportedProblem
        If the problem does not say which of its fields have one row per sample.
    """
    check_integer("size", size, 1)
    if not problem.per_sample:
        raise UnsupportedProblem.lacking(
            "a batch",
            "samples that stand apart",
            type(problem).__name__,
            "name the fields with one row per sample in its `per_sample`",
        )
    fields = problem.sample_fields()
    for first in range(0, problem.code_shape[0], size):
        last = first + size
        yield problem.with_samples(**{name: value[first:last] for name, value in fields.items()})


def mean_estimate(
    estimator: GradientEstimator, problems: Iterable[Problem], algorithm: Algorithm, depth: int
) -> MeanEstimate:
    r"""Estimate the gradient of a mean over all samples of some problems, of which one is in memory
    at a time.

    The loss of each problem is a mean over its samples. With :math:`n_b` samples in batch b, and
    g_b its estimate,

    .. math:: g = \sum_b n_b g_b \Big/ \sum_b n_b ,

    which is the estimate on all samples at once, up to rounding, for every estimator that is linear
    in the samples: all but those that draw random directions, which draw them anew for each batch.
    The sums are in float64.

    Parameters
    ----------
    estimator : GradientEstimator
    problems : iterable of Problem
        All at the same theta, such as those of `pudle.split` or of a dataset's `batches`.
    algorithm : Algorithm
        Without a warm start, which belongs to the samples of one problem.
    depth : int

    Raises
    ------
    InvalidArgument
        If there is no problem, or the algorithm has a warm start.
    """
    if algorithm.initial is not None:
        raise InvalidArgument(
            "algorithm has a warm start, whose rows belong to the samples of one problem: leave"
            " it out"
        )
    total = None
    loss, samples, batches = 0.0, 0, 0
    for problem in problems:
        estimate = estimator.estimate(problem, algorithm, depth)
        count = problem.code_shape[0]
        part = estimate.gradient.detach().to(torch.float64) * count
        total = part if total is None else total.add_(part)
        with torch.no_grad():
            loss += count * float(problem.outer_loss(estimate.codes))
        samples += count
        batches += 1
        # Neither the codes nor the problem outlive their turn.
        dtype = problem.theta.dtype
        del estimate, problem
    if total is None:
        raise InvalidArgument("problems is empty: give at least one problem")
    return MeanEstimate((total / samples).to(dtype), loss / samples, samples, batches)
