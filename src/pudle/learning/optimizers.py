"""Optimizers and learning-rate schedules of the learner: torch's own, behind specs such as ``adam(learning_rate=1e-3)``."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from ..errors import InvalidArgument
from ..validation import check_integer, check_positive


def _check_share(name: str, value: float) -> float:
    """Refuse what is not in [0, 1)."""
    if check_positive(name, value, allow_zero=True) >= 1:
        raise InvalidArgument(f"{name}={value} is out of range: give a number in [0, 1)")
    return value


class Optimizer(ABC):
    """What turns gradients into steps of the dictionary.

    A concrete optimizer is a frozen dataclass whose fields are its options, `learning_rate` among them.

    Attributes
    ----------
    name : str
        How specs call it.
    searches : bool
        Whether one step evaluates the loss at several dictionaries. These are then brought to unit atoms before each
        evaluation, since no unrolled algorithm is stable on atoms of any length.
    tangent : bool
        Whether it is handed only what of a gradient is orthogonal to the atoms; see `Adam`.
    """

    name: ClassVar[str]
    searches: ClassVar[bool] = False
    tangent: bool = False
    learning_rate: float

    def __post_init__(self) -> None:
        check_positive("learning_rate", self.learning_rate)

    @abstractmethod
    def make(self, dictionary: Tensor) -> torch.optim.Optimizer:
        """Return torch's optimizer of one tensor."""


@dataclass(frozen=True)
class Sgd(Optimizer):
    """Gradient descent ``D <- D - learning_rate g``; stochastic where batches are."""

    learning_rate: float = 0.1

    name = "sgd"

    def make(self, dictionary: Tensor) -> torch.optim.Optimizer:
        return torch.optim.SGD([dictionary], lr=self.learning_rate)


@dataclass(frozen=True)
class Momentum(Optimizer):
    """Gradient descent with momentum: ``v <- momentum v + g`` and ``D <- D - learning_rate v``.

    Parameters
    ----------
    learning_rate : float
    momentum : float
        In [0, 1).
    nesterov : bool
        Step along ``g + momentum v`` instead.
    """

    learning_rate: float = 0.02
    momentum: float = 0.9
    nesterov: bool = False

    name = "momentum"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_share("momentum", self.momentum)
        if self.nesterov and not self.momentum:
            raise InvalidArgument("nesterov=True needs a momentum above 0: raise momentum, or use sgd")

    def make(self, dictionary: Tensor) -> torch.optim.Optimizer:
        return torch.optim.SGD([dictionary], lr=self.learning_rate, momentum=self.momentum, nesterov=self.nesterov)


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam.

    Parameters
    ----------
    learning_rate : float
    decay1, decay2 : float
        Decay of the running means of the gradient and of its square, in [0, 1).
    epsilon : float
        Added to the root of the mean square. Where gradients are smaller than this, steps are proportional to them, as
        in gradient descent with rate ``learning_rate / epsilon``; where they are larger, every entry moves by about the
        learning rate however small its gradient is.
    tangent : bool
        Hand over ``(I - d d^T) g`` for every atom d in place of its gradient g. The part along an atom does not vanish at
        the best dictionary, since longer atoms make the penalty cheaper. In gradient descent, bringing atoms back to unit
        norm undoes its effect; scaled entry by entry, it no longer lies along the atom, and turns it
        (``docs/results/optimizers.md``).

    References
    ----------
    Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015.
    """

    learning_rate: float = 1e-3
    decay1: float = 0.9
    decay2: float = 0.999
    epsilon: float = 1e-8
    tangent: bool = False

    name = "adam"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("decay1", "decay2"):
            _check_share(name, getattr(self, name))
        check_positive("epsilon", self.epsilon)

    def make(self, dictionary: Tensor) -> torch.optim.Optimizer:
        return torch.optim.Adam([dictionary], self.learning_rate, (self.decay1, self.decay2), self.epsilon)


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay.

    Since atoms are scaled back to unit norm, the decay acts only through that: it shortens an atom before the step is
    added, which makes the step turn it a little further.

    Parameters
    ----------
    learning_rate, decay1, decay2, epsilon, tangent
        As in `Adam`.
    weight_decay : float
        >= 0.

    References
    ----------
    Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019.
    """

    weight_decay: float = 0.01

    name = "adamw"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("weight_decay", self.weight_decay, allow_zero=True)

    def make(self, dictionary: Tensor) -> torch.optim.Optimizer:
        decays = (self.decay1, self.decay2)
        return torch.optim.AdamW([dictionary], self.learning_rate, decays, self.epsilon, self.weight_decay)


@dataclass(frozen=True)
class Lbfgs(Optimizer):
    """L-BFGS with a strong Wolfe line search, meant for full batches.

    The line search trusts the gradient to be that of the loss. Estimators that leave out a part of it (`alternating` on
    the reconstruction loss) can make it stall, and so can an algorithm whose step is 1/L: that moves with the dictionary,
    which no gradient takes into account. Give the algorithm a step.

    Parameters
    ----------
    learning_rate : float
        First trial length of a line search.
    iterations : int
        Iterations within one step of the learner, >= 1.
    history : int
        Pairs of steps and gradient changes that are kept, >= 1.

    References
    ----------
    Liu and Nocedal, "On the limited memory BFGS method for large scale optimization", Mathematical Programming 1989.
    """

    learning_rate: float = 1.0
    iterations: int = 4
    history: int = 10

    name = "lbfgs"
    searches = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("iterations", self.iterations, 1)
        check_integer("history", self.history, 1)

    def make(self, dictionary: Tensor) -> torch.optim.Optimizer:
        return torch.optim.LBFGS(
            [dictionary],
            lr=self.learning_rate,
            max_iter=self.iterations,
            history_size=self.history,
            # The learner decides when to stop; absolute tolerances would stop early where gradients are small.
            tolerance_grad=0.0,
            tolerance_change=0.0,
            line_search_fn="strong_wolfe",
        )


class Schedule(ABC):
    """How the learning rate changes from epoch to epoch.

    Attributes
    ----------
    name : str
        How specs call it.
    needs_epochs : bool
        Whether the rate in an epoch depends on how many epochs there are in all.
    """

    name: ClassVar[str]

    @property
    def needs_epochs(self) -> bool:
        return False

    @abstractmethod
    def rate(self, start: float, epoch: int, epochs: int) -> float:
        """Return the learning rate in an epoch (from 0) of `epochs`, `start` being the optimizer's own."""

    def make(self, optimizer: torch.optim.Optimizer, epochs: int) -> LRScheduler:
        """Return torch's scheduler, to be stepped once per epoch."""
        start = optimizer.param_groups[0]["lr"]
        # A closed form of the epoch, not a recursion on the rate: nothing to restore but the epoch.
        return LambdaLR(optimizer, lambda epoch: self.rate(start, epoch, epochs) / start)


@dataclass(frozen=True)
class Constant(Schedule):
    """The same rate throughout."""

    name = "constant"

    def rate(self, start: float, epoch: int, epochs: int) -> float:
        return start


@dataclass(frozen=True)
class Step(Schedule):
    """The rate is multiplied by `factor` after every `every` epochs.

    Parameters
    ----------
    every : int
        >= 1.
    factor : float
        In (0, 1].
    """

    every: int
    factor: float = 0.1

    name = "step"

    def __post_init__(self) -> None:
        check_integer("every", self.every, 1)
        if check_positive("factor", self.factor) > 1:
            raise InvalidArgument(f"factor={self.factor} raises the learning rate: give a number in (0, 1]")

    def rate(self, start: float, epoch: int, epochs: int) -> float:
        return start * self.factor ** (epoch // self.every)


@dataclass(frozen=True)
class Cosine(Schedule):
    """The rate falls along half a cosine from its start to `final` over `period` epochs, and stays there.

    Parameters
    ----------
    final : float
        Rate at the end, >= 0.
    period : int, optional
        Epochs it takes; all of them where not given.
    """

    final: float = 0.0
    period: int | None = None

    name = "cosine"

    def __post_init__(self) -> None:
        check_positive("final", self.final, allow_zero=True)
        if self.period is not None:
            check_integer("period", self.period, 1)

    @property
    def needs_epochs(self) -> bool:
        return self.period is None

    def rate(self, start: float, epoch: int, epochs: int) -> float:
        share = min(epoch / max(self.period or epochs, 1), 1.0)
        return self.final + (start - self.final) * (1 + math.cos(math.pi * share)) / 2
