"""Optimizers and learning-rate schedules: torch's own, named by specs such as
``adam(learning_rate=1e-3)``.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, optim
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LRScheduler, StepLR

from ..validation import check_integer, check_options, check_positive


class Optimizer(ABC):
    """An optimizer's options; a concrete one is a frozen dataclass of them, `learning_rate` among
    them.
    """

    #: Name in specs.
    name: ClassVar[str]
    #: Whether one step evaluates the loss at several dictionaries. The learner scales the atoms of
    #: each to unit norm first, because no unrolled algorithm is stable on atoms of any length.
    searches: ClassVar[bool] = False
    #: Whether the optimizer receives only the part of a gradient that is orthogonal to the atoms;
    #: see `Adam`.
    tangent: bool = False
    learning_rate: float

    def __post_init__(self) -> None:
        decays = [name for name in ("momentum", "decay1", "decay2") if hasattr(self, name)]
        check_options(self, may_be_zero=decays, below_one=decays)

    @abstractmethod
    def make(self, theta: Tensor) -> optim.Optimizer:
        """Return torch's optimizer of one tensor."""


@dataclass(frozen=True)
class Sgd(Optimizer):
    """Gradient descent ``D <- D - learning_rate g``; stochastic where batches are."""

    learning_rate: float = 0.1
    name = "sgd"
    momentum = 0.0

    def make(self, theta: Tensor) -> optim.Optimizer:
        return optim.SGD([theta], self.learning_rate, self.momentum)


@dataclass(frozen=True)
class Momentum(Sgd):
    """Gradient descent with momentum in [0, 1): ``v <- momentum v + g`` and ``D <- D -
    learning_rate v``.
    """

    learning_rate: float = 0.02
    momentum: float = 0.9
    name = "momentum"


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam (Kingma and Ba, ICLR 2015).

    Parameters
    ----------
    learning_rate, decay1, decay2 : float
        Rate > 0, and decays of the running means of gradients and of their squares, in [0, 1).
    epsilon : float
        Added to the root of the mean square. Where gradients are smaller than this, Adam is
        gradient descent with rate ``learning_rate / epsilon``; where they are larger, every entry
        moves by about the learning rate.
    tangent : bool
        Use ``(I - d d^T) g`` for every atom d instead of its gradient g. The part along an atom
        does not vanish at the best dictionary, because longer atoms make the penalty cheaper.
        Gradient descent undoes this part when the atoms are scaled to unit norm. Adam scales it
        entry by entry, so that it turns the atom (``docs/results/optimizers.md``).
    """

    learning_rate: float = 1e-3
    decay1: float = 0.9
    decay2: float = 0.999
    epsilon: float = 1e-8
    tangent: bool = False
    name = "adam"

    def make(self, theta: Tensor) -> optim.Optimizer:
        return optim.Adam([theta], self.learning_rate, (self.decay1, self.decay2), self.epsilon)


@dataclass(frozen=True)
class Lbfgs(Optimizer):
    """L-BFGS with a strong Wolfe line search, for full batches (Liu and Nocedal, Mathematical
    Programming 1989).

    The line search needs the true gradient of the loss. It can stall with an estimator that leaves
    out a part of it (`alternating` on the reconstruction loss), or with an algorithm of step 1/L,
    which moves with the dictionary and is held constant by every estimator. Give the algorithm a
    step.

    `learning_rate` is the first trial length of a line search, `iterations` the number of
    iterations within one step of the learner, >= 1, and `history` the number of pairs of steps and
    gradient changes to keep, >= 1.
    """

    learning_rate: float = 1.0
    iterations: int = 4
    history: int = 10
    name = "lbfgs"
    searches = True

    def make(self, theta: Tensor) -> optim.Optimizer:
        """Return torch's optimizer of one tensor, without tolerances: the learner decides when to
        stop, and absolute ones would stop early where gradients are small.
        """
        # The learner decides when to stop; absolute tolerances would stop early where gradients are
        # small.
        return optim.LBFGS(
            [theta],
            self.learning_rate,
            self.iterations,
            tolerance_grad=0.0,
            tolerance_change=0.0,
            history_size=self.history,
            line_search_fn="strong_wolfe",
        )


class Schedule(ABC):
    """How the learning rate changes from epoch to epoch."""

    #: Name in specs.
    name: ClassVar[str]
    #: Whether the rate in an epoch depends on the total number of epochs.
    needs_epochs: ClassVar[bool] = False

    @abstractmethod
    def make(self, optimizer: optim.Optimizer, epochs: int) -> LRScheduler:
        """Return torch's scheduler for a training of `epochs`, which the learner advances after
        every epoch.
        """


@dataclass(frozen=True)
class Constant(Schedule):
    """The same rate in every epoch."""

    name = "constant"

    def make(self, optimizer: optim.Optimizer, epochs: int) -> LRScheduler:
        return ConstantLR(optimizer, factor=1.0)


@dataclass(frozen=True)
class Step(Schedule):
    """Multiply the rate by `factor`, in (0, 1], after every `every` epochs, >= 1."""

    every: int
    factor: float = 0.1
    name = "step"

    def __post_init__(self) -> None:
        check_integer("every", self.every, 1)
        check_positive("factor", self.factor, most=1)

    def make(self, optimizer: optim.Optimizer, epochs: int) -> LRScheduler:
        return StepLR(optimizer, self.every, self.factor)


@dataclass(frozen=True)
class Cosine(Schedule):
    """Lower the rate along half a cosine to `final` >= 0 over all epochs."""

    final: float = 0.0
    name = "cosine"
    needs_epochs = True

    def __post_init__(self) -> None:
        check_positive("final", self.final, allow_zero=True)

    def make(self, optimizer: optim.Optimizer, epochs: int) -> LRScheduler:
        return CosineAnnealingLR(optimizer, max(epochs, 1), self.final)
