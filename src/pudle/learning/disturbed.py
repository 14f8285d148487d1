"""Trainings whose gradient is disturbed on purpose, by an error of a chosen size and direction:
what the direction of an error costs.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

from torch import Tensor
from torch.linalg import vector_norm

from ..algorithms import Algorithm
from ..errors import InvalidArgument
from ..estimator import Estimate, GradientEstimator
from ..measuring.experiment import Outcome, ProgressCallback
from ..problems import Problem
from ..problems.l1 import DictionaryProblem
from ..streams import generator
from ..validation import check_choice, check_positive
from .learner import Learner, Training
from .learning_experiment import LearningExperiment

#: Where an error of the gradient points.
Direction = Literal["noise", "fixed", "away", "toward"]
#: What tables call the directions.
DIRECTIONS: dict[Direction, str] = {
    "noise": "in a direction drawn for every step",
    "fixed": "in one direction drawn for the training",
    "away": "away from the generating dictionary",
    "toward": "toward the generating dictionary",
}


@dataclass(frozen=True)
class Disturbed(GradientEstimator):
    """The gradient g of another estimator with an error of relative size `size`: ``g + size |g| u``
    with a direction u of unit norm.

    Parameters
    ----------
    estimator : GradientEstimator
        Estimator of g.
    size : float
        Norm of the error relative to that of g, > 0.
    direction : {"noise", "fixed", "away", "toward"}
        What u is, up to its length: a Gaussian draw by `seed`, which a training replaces in every
        step; `goal` itself; ``goal - theta``, with which gradient descent moves away from the goal;
        or ``theta - goal``.
    goal : Tensor, optional
        Shape of theta. Noise needs none.
    seed : int
    """

    estimator: GradientEstimator
    size: float
    direction: Direction
    goal: Tensor | None = field(default=None, metadata={"spec": False})
    seed: int = 0

    name = "disturbed"
    computes = "heuristic"

    def estimate(self, problem: Problem, algorithm: Algorithm, depth: int) -> Estimate:
        """Return the other estimator's estimate with the error added to its gradient; codes and
        diagnostics stay as they are.
        """
        estimate = self.estimator.estimate(problem, algorithm, depth)
        direction = self._direction(problem.theta.detach())
        length = self.size * vector_norm(estimate.gradient) / vector_norm(direction)
        return replace(estimate, gradient=estimate.gradient + length * direction)

    def _direction(self, theta: Tensor) -> Tensor:
        """Return the direction of the error at theta, of any length: without a `goal` a draw by
        `seed`, the same at each call.
        """
        if self.goal is None:
            return gaussian(self.seed, theta)
        if self.direction == "fixed":
            return self.goal
        # A step subtracts the gradient.
        return self.goal - theta if self.direction == "away" else theta - self.goal


def gaussian(seed: int, like: Tensor) -> Tensor:
    """Return a tensor of independent Gaussian entries with the shape of another, from a stream of
    its own for each seed.
    """
    return like.new_tensor(generator(seed, "disturbed").standard_normal(like.shape))


@dataclass(frozen=True)
class DisturbedExperiment(LearningExperiment):
    """A training in which every gradient has an error of the same relative size.

    Attributes
    ----------
    error : float
        Norm of the error relative to that of the gradient, > 0.
    direction : {"noise", "fixed", "away", "toward"}
        Direction of the error. ``noise`` is drawn anew for every step, and ``fixed`` once for the
        training. With ``away`` a step of gradient descent moves away from the generating dictionary
        by as much as the error is long, and with ``toward`` toward it: the difference of the two
        dictionaries, atom by atom. The start must be so near that every atom is next to the one
        that it stands for.
    """

    error: float = 0.1
    direction: Direction = "noise"

    @property
    def title(self) -> str:
        """The name in tables and on terminals: the estimator, its error and the direction of that,
        and the optimizer.
        """
        return (
            f"{self.estimator} with an error of {self.error:g} {DIRECTIONS[self.direction]},"
            f" {self.optimizer}"
        )

    def learner(self) -> Learner:
        """Return the learner, whose estimator is disturbed; an unknown direction, or an error that
        is not positive, raises InvalidArgument.
        """
        check_choice("direction", self.direction, DIRECTIONS)
        size, learner = check_positive("error", self.error), super().learner()
        disturbed = Disturbed(learner.parts.estimator, size, self.direction, self.goal())
        return replace(learner, estimator=disturbed)

    def goal(self) -> Tensor | None:
        """Return the tensor that the direction of the error is taken from: a fixed draw or the
        generating dictionary; None for noise.

        The problem is drawn for it. InvalidArgument says that the dataset has no generating
        dictionary.
        """
        if self.direction == "noise":
            return None
        problem = self.problem()
        if self.direction == "fixed":
            return gaussian(self.seed, problem.dictionary)
        if problem.generating_dictionary is None:
            raise InvalidArgument(
                f"direction={self.direction!r} needs the generating dictionary, which the dataset"
                f" {self.dataset!r} does not have: use noise or fixed, or a dataset such as"
                " sparse_gaussian"
            )
        return problem.generating_dictionary

    def outcome(
        self, problem: DictionaryProblem, training: Training, progress: ProgressCallback
    ) -> Outcome:
        """Return summary and arrays of the training; ``method`` in the summary names the error and
        its direction.
        """
        summary, arrays = super().outcome(problem, training, progress)
        method = f"{self.estimator}, error {self.error:g} {DIRECTIONS[self.direction]}"
        return summary | {"method": method}, arrays
