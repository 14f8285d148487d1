"""Iterative shrinkage-thresholding (proximal gradient descent): plain, accelerated, and with a
start of its own.
"""

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from ..errors import InvalidArgument
from ..names import spec_field
from ..problems import Problem
from ..validation import check_positive
from .algorithm import Algorithm, State
from .thresholding import Hard, Thresholding

#: One number for all samples, or one for each.
Momentum = TypeVar("Momentum", float, Tensor, float | Tensor)
#: Share of the codes up to which steps count as rounding: close to a minimum every program would
#: otherwise restart at layers of its own. Well above what momentum makes of rounding in double
#: precision; in single precision rounding is larger.
MARGIN = 1e-12


@dataclass(frozen=True)
class Ista(Algorithm):
    """Iterative shrinkage-thresholding: ``z_{t+1} = prox(z_t - step * grad f(z_t))``.

    Plain gradient descent where the problem has no penalty.
    """

    name = "ista"

    def advance(self, problem: Problem, state: State, step: float) -> State:
        codes = self.proximal_step(problem, state.point, step, state.iteration)
        return State(codes, codes, iteration=state.iteration + 1)


@dataclass(frozen=True)
class Fista(Algorithm):
    """Accelerated iterative shrinkage-thresholding.

    ``z_{t+1} = prox(y_t - step * grad f(y_t))`` and ``y_{t+1} = z_{t+1} + (a_t - 1)/a_{t+1}
    (z_{t+1} - z_t)`` with ``a_{t+1} = (1 + sqrt(1 + 4 a_t^2))/2``. The codes are z, the output of
    the proximal map, never the extrapolated y.

    Parameters
    ----------
    restart : bool
        Reset the momentum of a sample, ``y_{t+1} = z_{t+1}`` and ``a_{t+1} = 1``, if it points
        uphill: ``(y_t - z_{t+1})^T (z_{t+1} - z_t) > 0``, by more than rounding. Derivatives treat
        this decision as given: it is piecewise constant.

    References
    ----------
    Beck and Teboulle, "A fast iterative shrinkage-thresholding algorithm", SIAM J. Imaging Sciences
    2009. O'Donoghue and Candes, "Adaptive restart for accelerated gradient schemes", Found. of
    Computational Mathematics 2015.
    """

    restart: bool = False

    name = "fista"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.restart, bool):
            raise InvalidArgument(
                f"restart={self.restart!r} is neither True nor False: give one of these"
            )

    def start(self, problem: Problem, initial: Tensor | None = None) -> State:
        state = super().start(problem, initial)
        if not self.restart:
            return state
        shape = (len(state.codes), *(1,) * (state.codes.ndim - 1))
        return State(state.codes, state.point, state.codes.new_ones(shape))

    def advance(self, problem: Problem, state: State, step: float) -> State:
        codes = self.proximal_step(problem, state.point, step, state.iteration)
        momentum = following(state.momentum)
        pull = (state.momentum - 1) / momentum
        moved = codes - state.codes
        if isinstance(pull, Tensor):
            back = state.point - codes
            scalar = (back * moved).flatten(1).sum(1)
            noise = (codes.abs() * (back.abs() + moved.abs())).flatten(1).sum(1)
            uphill = (scalar > MARGIN * noise).reshape(pull.shape)
            momentum = torch.where(uphill, 1, momentum)
            point = torch.addcmul(codes, torch.where(uphill, 0, pull), moved)
        else:
            point = torch.add(codes, moved, alpha=pull)
        return State(codes, point, momentum, state.iteration + 1)


@dataclass(frozen=True)
class Noodl(Ista):
    r"""NOODL's inner iteration, hard thresholding with a start of its own.

    .. math:: z_1 = H_{C/2}(D^\top x), \qquad
              z_{t+1} = H_\tau\bigl(z_t - \eta D^\top (D z_t - x)\bigr),

    where :math:`H_\tau` keeps the entries with ``|v| > tau``. The first layer is the start, a
    gradient layer of step 1 from zero codes, so that T layers are the start and T - 1 updates.
    Derivatives pass through all of them. A fixed point is the least-squares code on its support; it
    minimizes no penalized objective, so that only limits and the generating codes are targets. The
    first support is that of the code for small errors of the dictionary, if all nonzero entries are
    at least C in magnitude and the atoms are incoherent.

    Parameters
    ----------
    step : float, optional
        Step eta of the updates; None means 1/L, which is the authors' 0.2 where p = 1.5 m.
    thresholding : Hard or str
        Rule of the updates, ``hard(threshold=tau)``.
    lower_bound : float
        Lower bound C > 0 of the magnitudes of nonzero entries.

    Raises
    ------
    InvalidArgument
        For a number out of range, a rule that is not hard, and a warm start, which the method does
        not have.

    References
    ----------
    Rambhatla, Li and Haupt, "NOODL: Provable Online Dictionary Learning and Sparse Coding", ICLR
    2019.
    """

    thresholding: Thresholding = spec_field("thresholding", Hard(threshold=0.1))
    lower_bound: float = 1.0

    name = "noodl"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.thresholding, Hard):
            raise InvalidArgument(
                f"thresholding={self.thresholding!r} is not hard, as NOODL's is: use ista with this"
                " rule"
            )
        check_positive("lower_bound", self.lower_bound)
        self._refuse_warm_start(self.initial)

    def start(self, problem: Problem, initial: Tensor | None = None) -> State:
        self._refuse_warm_start(initial)
        return super().start(problem)

    def _refuse_warm_start(self, initial: Tensor | None) -> None:
        if initial is not None:
            raise InvalidArgument(
                "noodl starts at the thresholded D^T x: for a warm start use ista with the rule"
                " 'hard'"
            )

    def proximal_step(self, problem: Problem, point: Tensor, step: float, iteration: int) -> Tensor:
        if iteration:
            return super().proximal_step(problem, point, step, iteration)
        start = Ista(thresholding=Hard(self.lower_bound / 2))
        return start.proximal_step(problem, point, 1.0, iteration)

    def later_layers(self) -> tuple[int, Algorithm]:
        return 1, Ista(self.step, self.thresholding)


def following(momentum: Momentum) -> Momentum:
    """Return ``a_{t+1} = (1 + sqrt(1 + 4 a_t^2)) / 2``."""
    after: Momentum = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
    return after
