"""Backpropagation through the last layers only."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pudle.algorithms.unrolling import window_gradients
from pudle.estimator import Algorithm, Estimate, Problem, WindowEstimator, check_options
from pudle.validation import check_integer


@dataclass(frozen=True)
class Truncated(WindowEstimator):
    r"""Reverse mode through the last K layers; the codes that enter them are held constant.

    .. math:: g = \partial_\theta \ell(z_T, \theta) + J_{T,K}^\top \partial_z \ell(z_T, \theta)

    with :math:`J_{T,K}` the Jacobian of the last K layers alone. A window of the depth or more is
    full backpropagation. The error falls with depth on the lasso loss; on the reconstruction loss a
    floor of order :math:`\rho^K` remains.

    Cost: T layers forward, min(K, T) backward; memory grows with K, not with T.

    Parameters
    ----------
    window : int
        Number K of layers that are differentiated, >= 1.
    """

    window: int

    name = "truncated"
    aliases = ("k_rmd", "tbptt")
    references = (
        (
            "Shaban, Cheng, Hatch and Boots, Truncated back-propagation for bilevel optimization,"
            " AISTATS 2019"
        ),
        (
            "Malezieux, Moreau and Kowalski, Understanding approximate and unrolled dictionary"
            " learning, ICLR 2022"
        ),
    )
    computes = "truncated"
    consistent_for = ("lasso",)

    __post_init__ = check_options

    @staticmethod
    def sweep_windows(
        problem: Problem, algorithm: Algorithm, depth: int, windows: Sequence[int]
    ) -> Iterator[tuple[int, Estimate]]:
        """Yield ``(window, estimate)`` for each window, in ascending order, from one forward and
        one backward pass.
        """
        windows = sorted({check_integer("windows", window, 1) for window in windows})
        for window, (gradient, codes) in zip(
            windows, window_gradients(problem, algorithm, depth, windows), strict=True
        ):
            work = {"layers": depth, "layers_differentiated": min(window, depth)}
            yield window, Estimate(gradient, codes, work)
