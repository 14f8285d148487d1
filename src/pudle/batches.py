"""Gradients of a mean over more samples than memory holds, batch by batch."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .algorithms import Algorithm
from .errors import InvalidArgument, UnsupportedProblem
from .estimator import GradientEstimator
from .problems import Problem
from .validation import check_integer


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

    Raises
    ------
    UnsupportedProblem
        If the problem does not say which of its fields have one row per sample.
    """
    check_integer("size", size, 1)
    if not problem.per_sample:
        raise UnsupportedProblem(
            f"{type(problem).__name__} cannot be split into batches: it does not name the fields in"
            " `per_sample`"
        )
    fields = {
        name: value for name in problem.per_sample if (value := getattr(problem, name)) is not None
    }
    for first in range(0, problem.code_shape[0], size):
        rows = slice(first, first + size)
        yield problem.with_samples(**{name: value[rows] for name, value in fields.items()})


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
    total: Tensor | None = None
    loss, samples, batches = 0.0, 0, 0
    for problem in problems:
        estimate = estimator.estimate(problem, algorithm, depth)
        count = problem.code_shape[0]
        part = estimate.gradient.detach().to(torch.float64) * count
        total = part if total is None else total.add_(part)
        with torch.no_grad():
            loss += count * float(problem.outer_loss(estimate.codes))
        samples, batches = samples + count, batches + 1
        # Neither the codes nor the problem outlive their turn.
        dtype = problem.theta.dtype
        del estimate, problem
    if total is None:
        raise InvalidArgument("problems is empty: give at least one problem")
    return MeanEstimate((total / samples).to(dtype), loss / samples, samples, batches)
