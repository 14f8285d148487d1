"""NOODL's inner iteration: hard thresholding with a first layer of its own."""

from dataclasses import dataclass

from torch import Tensor

from ..errors import InvalidArgument
from ..names import spec_field
from ..problems import Problem
from ..validation import check_positive
from .algorithm import Algorithm, State
from .ista import Ista
from .thresholding import Hard, Thresholding


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
        """Raise InvalidArgument for codes to begin from."""
        if initial is not None:
            raise InvalidArgument(
                "noodl starts at the thresholded D^T x: for a warm start use ista with the rule"
                " 'hard'"
            )

    def proximal_step(self, problem: Problem, point: Tensor, step: float, iteration: int) -> Tensor:
        """Run the layer of an iteration: the first has step 1 and the threshold C/2, the others
        `step` and the rule.
        """
        if iteration:
            return super().proximal_step(problem, point, step, iteration)
        start = Ista(thresholding=Hard(self.lower_bound / 2))
        return start.proximal_step(problem, point, 1.0, iteration)

    def later_layers(self) -> tuple[int, Algorithm]:
        return 1, Ista(self.step, self.thresholding)
