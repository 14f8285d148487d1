"""NOODL's estimate of the codes: hard thresholding from the thresholded products of atoms and
observations.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from torch import Tensor

from ..errors import InvalidArgument
from ..problems import Problem
from ..validation import check_positive
from .algorithm import Algorithm, State
from .ista import Ista
from .thresholding import Hard, Thresholding


@dataclass(frozen=True)
class Noodl(Ista):
    r"""NOODL's inner iteration, hard thresholding with a start, a step and a threshold of its own.

    .. math:: z_1 = H_{C/2}(D^\top x), \qquad z_{t+1} = H_{\tau_t}\bigl(z_t - \eta_t D^\top (D z_t -
              x)\bigr),

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
    steps, thresholds : tuple of float
        Steps and thresholds > 0 of the first updates. Those that follow have `step` and the rule's
        own threshold.

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

    thresholding: Thresholding = Hard(threshold=0.1)
    lower_bound: float = 1.0
    steps: tuple[float, ...] = ()
    thresholds: tuple[float, ...] = ()

    name = "noodl"

    @classmethod
    def specimen(
        cls, random: np.random.Generator, problem: Any, initial: Tensor, largest: float = 1.0
    ) -> Self:
        """Draw up to three updates that have a step or a threshold of their own."""
        products = problem.smooth_gradient(problem.initial_codes()).abs().max()
        bound = float(products) * random.uniform(0.1, 0.6)
        fractions = random.uniform(0.2, 1, random.integers(0, 4))
        cutoffs = random.uniform(0.5, 2, random.integers(1, 4))
        step = None
        if random.random() < 0.5:
            step = random.uniform(0.3, largest) / problem.lipschitz_constant
        cutoffs = cutoffs * float(np.asarray(problem.penalty).mean()) / problem.lipschitz_constant
        last, *thresholds = cutoffs.tolist()
        steps = tuple((fractions / problem.lipschitz_constant).tolist())
        return cls(step, Hard(last), bound, steps, tuple(thresholds))

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.thresholding, Hard):
            raise InvalidArgument(
                f"thresholding={self.thresholding!r} is not hard, as NOODL's is: use ista with this"
                " rule"
            )
        check_positive("lower_bound", self.lower_bound)
        for name in ("steps", "thresholds"):
            values = getattr(self, name)
            if not isinstance(values, tuple | list):
                raise InvalidArgument(
                    f"{name}={values!r} is not a tuple of numbers: write ({values},)"
                )
            object.__setattr__(self, name, tuple(check_positive(name, value) for value in values))
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
        rule, update = self.thresholding, iteration - 1
        if iteration == 0:
            step, rule = 1.0, Hard(self.lower_bound / 2)
        elif update < len(self.steps):
            step = self.steps[update]
        if 0 <= update < len(self.thresholds):
            rule = Hard(self.thresholds[update])
        return problem.prox(point - step * problem.smooth_gradient(point), step, rule, iteration)

    def later_layers(self) -> tuple[int, Algorithm]:
        own = 1 + max(len(self.steps), len(self.thresholds))
        return own, Ista(self.step, self.thresholding)
