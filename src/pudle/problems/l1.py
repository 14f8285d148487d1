"""Least squares with an l1 penalty: what the problems of the sparse coding family share, and those
with a matrix, sparse coding in a dense dictionary and the choice of the lasso's penalty.
"""

import functools
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InvalidArgument
from ..threads import blocks_of, run_blocks, single_thread
from ..validation import (
    check_alike,
    check_choice,
    check_nonzero,
    check_positive,
    check_scalar,
    check_tensor,
)
from .active_set import solve_by_cholesky
from .linearized import Solution
from .problem import Problem, ThresholdingRule

#: Columns of a product of matrices that one thread computes at a time.
PANEL = 512
Array = NDArray[np.floating[Any]]


class L1Problem(Problem):
    """Least squares with an l1 penalty on the codes.

    The inner problem, per sample x, is ``argmin_z 1/2 |A z - x|^2 + l2_penalty/2 |z|^2 + penalty
    |z|_1`` with A linear (over z >= 0 if `nonnegative`). A concrete class has `penalty` and
    `nonnegative` as fields or properties and defines A by `residual` and `adjoint`.
    """

    #: Weight of the l1 norm; a tensor broadcasts over the codes.
    penalty: float | Tensor
    #: Whether the codes are restricted to the non-negative orthant.
    nonnegative: bool
    #: Weight of half the squared l2 norm, a part of f; positive for the elastic net.
    l2_penalty: float = 0.0
    #: Tensor y that takes the place of the observations x in the outer loss.
    targets: Tensor | None = None

    symmetric = True

    @abstractmethod
    def residual(self, codes: Tensor) -> Tensor:
        """Return ``A z - x`` per sample; shape of the observations."""

    @abstractmethod
    def adjoint(self, residual: Tensor) -> Tensor:
        """Return ``A^T r`` per sample; shape of the codes."""

    def smooth_gradient(self, codes: Tensor) -> Tensor:
        gradient = self.adjoint(self.residual(codes))
        return gradient + self.l2_penalty * codes if self.l2_penalty else gradient

    def prox(
        self, values: Tensor, step: float, thresholding: ThresholdingRule, iteration: int
    ) -> Tensor:
        return thresholding(values, step * self.penalty, iteration, self.nonnegative)

    def active(self, codes: Tensor) -> Tensor:
        return codes.bool()  # ten times as fast as a comparison with zero

    def piece(self, codes: Tensor) -> Tensor:
        return codes.sign()

    def stationarity(self, codes: Tensor) -> Tensor:
        return self.smooth_gradient(codes) + self.penalty * codes.sign()


class DenseL1Problem(L1Problem):
    """An `L1Problem` whose A is a matrix that all samples share."""

    @property
    @abstractmethod
    def matrix(self) -> Tensor:
        """The matrix A, shape (m, p)."""

    @property
    def code_shape(self) -> tuple[int, int]:
        return len(self.observations), self.matrix.shape[1]

    @property
    @single_thread()
    def hessian(self) -> Tensor:
        """Hessian ``A^T A + l2_penalty I`` of the smooth part, shape (p, p), without gradient; a
        new tensor at each access, from products in one thread.
        """
        matrix = self.matrix.detach()
        large = matrix.shape[1] > PANEL
        hessian: Tensor = gram(matrix) if large else matrix.T @ matrix
        hessian.diagonal().add_(self.l2_penalty)
        return hessian

    @functools.cached_property
    @single_thread()
    def lipschitz_constant(self) -> float:
        values: Tensor = torch.linalg.eigvalsh(self._smaller_gram())
        return float(values[-1]) + self.l2_penalty

    @single_thread()
    def is_lipschitz(self, constant: float) -> bool:
        """Tell whether `constant` is at least L: by L where it was computed, else by a Cholesky
        factorization, whose positive answer is kept in the problem.

        False may mean that rounding leaves it open. See `Problem.is_lipschitz`.
        """
        computed: dict[str, object] = vars(self)
        if "lipschitz_constant" in computed:
            return self.lipschitz_constant <= constant
        if computed.get("_certified") == constant:
            return True
        # ``c I - A A^T`` has a Cholesky factor if all eigenvalues are below c: ten times cheaper
        # than the eigenvalues.
        gram = self._smaller_gram().neg_()
        gram.diagonal().add_(constant - self.l2_penalty)
        certified = not int(torch.linalg.cholesky_ex(gram).info)
        if certified:
            computed["_certified"] = constant
        return certified

    def _smaller_gram(self) -> Tensor:
        """Return ``A A^T`` or ``A^T A``, whichever is smaller, as a new tensor: their largest
        eigenvalues are the same.
        """
        matrix = self.matrix.detach()
        rows, columns = matrix.shape
        return gram(matrix.T if rows < columns else matrix)

    def residual(self, codes: Tensor) -> Tensor:
        """Return ``z A^T - x`` per sample, shape (n, m)."""
        return torch.addmm(self.observations, codes, self.matrix.T, beta=-1)

    def adjoint(self, residual: Tensor) -> Tensor:
        """Return ``r A`` per sample, shape (n, p)."""
        return residual @ self.matrix

    @single_thread()
    def solve_active(self, codes: Tensor, right_hand_side: Tensor) -> Solution:
        """Solve the active systems by Cholesky factors or, where these may be singular, by
        eigendecomposition; see `Problem.solve_active`. Nothing is refused.
        """
        solution, condition, singular = solve_by_cholesky(
            self.hessian, self.active(codes), right_hand_side
        )
        return solution, {"condition_number": condition, "singular": singular}


def gram(matrix: Tensor) -> Tensor:
    """Return ``A^T A`` of a detached matrix as a new tensor; on a CPU by numpy, which knows that it
    is symmetric and halves the work, in blocks of columns that may run in several threads.
    """
    if matrix.device.type != "cpu" or torch._C._functorch.is_functorch_wrapped_tensor(matrix):
        return matrix.T @ matrix
    array = matrix.numpy()
    result = np.empty((array.shape[1], array.shape[1]), array.dtype)

    def compute(panel: slice) -> None:
        """Write the product for a panel of columns with itself and with all earlier ones into the
        result, both halves.
        """
        columns = array[:, panel]
        earlier, diagonal_block = slice(0, panel.start), (panel, panel)
        result[diagonal_block] = columns.T @ columns
        result[earlier, panel] = array[:, earlier].T @ columns
        result[panel, earlier] = result[earlier, panel].T

    _run_panels(compute, result.shape[1], len(array) * result.size / 2)
    return torch.from_numpy(result)


def product(left: Array, right: Array) -> Array:
    """Return ``left @ right`` as a new array of the dtype of `right`, which may be a stack of
    matrices, shape (..., k, p).

    It is computed in blocks of `PANEL` columns, which several threads share if there is enough
    work: the result has the same bits with any number of threads.
    """
    columns = right.shape[-1]
    result = np.empty((*right.shape[:-2], len(left), columns), right.dtype)

    def compute(panel: slice) -> None:
        np.matmul(left, right[..., panel], out=result[..., panel])

    _run_panels(compute, columns, float(left.size * result.size / len(left)))
    return result


def _run_panels(compute: Callable[[slice], None], columns: int, work: float) -> None:
    run_blocks(compute, blocks_of(columns, PANEL), work)


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class DictionaryProblem(L1Problem):
    """An `L1Problem` whose A is made from a dictionary, the outer parameter."""

    observations: Tensor
    dictionary: Tensor
    penalty: float | Tensor
    #: Outer loss, a mean over samples: ``lasso`` is the inner objective, ``reconstruction`` its
    #: term 1/2 |A z - x|^2, and a function ``loss(codes, theta)`` returns a mean as well.
    loss: str | Callable[[Tensor, Tensor], Tensor] = "lasso"
    nonnegative: bool = False
    l2_penalty: float = 0.0
    generating_dictionary: Tensor | None = None
    generating_codes: Tensor | None = None

    parameter = "dictionary"
    per_sample = ("observations", "targets", "generating_codes")
    #: Axes of the fields that hold tensors.
    axes: ClassVar[Mapping[str, str]]

    def dictionary_of(self, theta: Tensor) -> Tensor:
        """Return the dictionary within a value of the parameter, as a view; here it is the whole
        parameter.
        """
        return theta

    def outer_residual(self, codes: Tensor) -> Tensor:
        """Return ``A z - y`` per sample, y being the targets, or the observations without any."""
        at = self if self.targets is None else self._copy({"observations": self.targets})
        return at.residual(codes)

    def outer_loss(self, codes: Tensor) -> Tensor:
        if isinstance(self.loss, str):
            return LOSSES[self.loss](self, codes)
        return check_scalar("loss", self.loss(codes, self.theta))

    def _check_sizes(self) -> None:
        """Refuse sizes that letters alone do not tell to be wrong; there are none here."""

    def _check_penalty(self) -> float | Tensor:
        return check_positive("penalty", self.penalty)

    def _penalty_of_each(self, part: str, count: int) -> Tensor:
        """Return one penalty for each part of the dictionary, such as an ``atom``, shape (count,),
        from one number or from a tensor of one or `count` entries.

        InvalidArgument refuses other sizes, and entries that are not positive.
        """
        penalties: object = self.penalty
        if isinstance(penalties, Real):
            penalties = self.dictionary.new_tensor(check_positive("penalty", penalties))
        penalty = check_tensor("penalty", penalties, None).flatten()
        check_alike("penalty", penalty, "dictionary", self.dictionary)
        if len(penalty) not in (1, count) or not (penalty > 0).all():
            raise InvalidArgument(
                f"penalty has {len(penalty)} entries, the smallest {float(penalty.min()):.3g}: give"
                f" one positive number, or {count}, one for each {part}"
            )
        return penalty.expand(count)

    def __post_init__(self) -> None:
        self._convert(**self.axes)
        check_nonzero("dictionary", self.dictionary)
        object.__setattr__(self, "penalty", self._check_penalty())
        l2_penalty = check_positive("l2_penalty", self.l2_penalty, allow_zero=True)
        object.__setattr__(self, "l2_penalty", l2_penalty)
        if not callable(self.loss):
            check_choice("loss", self.loss, LOSSES)
        self._check_sizes()


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class SparseCoding(DictionaryProblem, DenseL1Problem):
    """Sparse coding of observations; the dictionary is the outer parameter.

    The inner problem, per sample x, is ``z(D) = argmin_z 1/2 |x - D z|^2 + penalty |z|_1`` (over z
    >= 0 if `nonnegative`). A positive `l2_penalty` makes it the elastic net: it adds ``l2_penalty/2
    |z|^2`` to the smooth part. The outer loss is a mean over samples: ``lasso`` is the inner
    objective itself, ``reconstruction`` is ``1/2 |x - D z|^2``.

    Parameters
    ----------
    observations : Tensor, shape (n, m)
        Samples as rows.
    dictionary : Tensor, shape (m, p)
        Atoms as columns. The gradient has this shape.
    penalty : float or Tensor, shape (p,)
        Weight of the l1 norm, > 0: one for all atoms or one for each. Penalties of their own take
        the torch path.
    loss : {"lasso", "reconstruction"} or callable
        Outer loss: a function ``loss(codes, dictionary)`` returns a scalar tensor, the mean over
        the samples that it is given, which may be a batch. Exact references are known for the named
        losses; that of a function is the ``limit``.
    nonnegative : bool
        Restrict the codes to the non-negative orthant.
    l2_penalty : float
        Weight of half the squared l2 norm, >= 0; zero for the lasso.
    generating_dictionary : Tensor, shape (m, p), optional
        The dictionary that generated the observations; the targets gstar and gtilde need it.
    generating_codes : Tensor, shape (n, p), optional
        The codes that generated the observations; the target gtilde needs them.

    Raises
    ------
    InvalidArgument
        If a tensor is not a finite floating tensor of a fitting shape, penalty <= 0 or l2_penalty <
        0.

    References
    ----------
    Tolooshams and Ba, "Stable and Interpretable Unrolled Dictionary Learning", TMLR 2022.
    Zou and Hastie, "Regularization and variable selection via the elastic net", JRSS B 2005.
    """

    axes = {
        "observations": "(n, m)",
        "dictionary": "(m, p)",
        "generating_dictionary": "(m, p)",
        "generating_codes": "(n, p)",
    }

    def _check_penalty(self) -> float | Tensor:
        if isinstance(self.penalty, Tensor | np.ndarray):
            return self._penalty_of_each("atom", self.dictionary.shape[1])
        return DictionaryProblem._check_penalty(self)

    @property
    def matrix(self) -> Tensor:
        return self.dictionary


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class PenaltySelection(DenseL1Problem):
    """Lasso regression; the outer parameter is the logarithm of the penalty, the outer loss the
    held-out error.

    The inner problem, per row y of the observations, is ``z(theta) = argmin_z 1/2 |y - A z|^2 +
    sum_j exp(theta_j) |z_j|`` with design A (over z >= 0 if `nonnegative`). The outer loss is the
    mean over rows of ``1/2 |y' - B z|^2``, with y' and B the held-out observations and design. It
    depends on theta through the codes alone: its direct part is zero. With S the active set and s
    its signs,

    ``dz_S/dtheta_j = -exp(theta_j) s_j (A_S^T A_S)^{-1} e_j``, summed over j in S if all entries
    share one penalty.

    Parameters
    ----------
    observations : Tensor, shape (n, m)
        Responses of n regressions on one design.
    design : Tensor, shape (m, p)
    held_out_observations : Tensor, shape (n, m2)
    held_out_design : Tensor, shape (m2, p)
    log_penalty : Tensor, shape () or (p,)
        The outer parameter theta: one for all entries of the codes, or one for each. The gradient
        has this shape.
    nonnegative : bool
        Restrict the codes to the non-negative orthant.

    Raises
    ------
    InvalidArgument
        If a tensor is not a finite floating tensor of a fitting shape.

    References
    ----------
    Bertrand et al., "Implicit differentiation of Lasso-type models for hyperparameter
    optimization", ICML 2020.
    """

    observations: Tensor
    design: Tensor
    held_out_observations: Tensor
    held_out_design: Tensor
    log_penalty: Tensor
    nonnegative: bool = False

    parameter = "log_penalty"
    per_sample = ("observations", "held_out_observations")
    loss: ClassVar[str] = "held_out"

    def __post_init__(self) -> None:
        self._convert(observations="(n, m)")
        theta = torch.as_tensor(self.log_penalty)
        if theta.ndim == 0 and theta is not self.log_penalty:
            # A Python number stands for a scalar tensor of the problem's dtype.
            object.__setattr__(self, "log_penalty", theta.to(self.observations))
        self._convert(
            observations="(n, m)",
            design="(m, p)",
            held_out_observations="(n, m2)",
            held_out_design="(m2, p)",
            log_penalty="(p,)" if theta.ndim else "()",
        )
        check_nonzero("design", self.design)
        weights = self.penalty.detach()
        if not (torch.isfinite(weights) & (weights > 0)).all():
            raise InvalidArgument(
                "log_penalty has entries whose exponential is zero or infinite: give the natural"
                " logarithm of the penalty"
            )

    @property
    def penalty(self) -> Tensor:  # type: ignore[override]  # a field in other problems
        """``exp(log_penalty)``, differentiable."""
        return self.log_penalty.exp()

    @property
    def matrix(self) -> Tensor:
        return self.design

    def outer_loss(self, codes: Tensor) -> Tensor:
        held_out = torch.addmm(self.held_out_observations, codes, self.held_out_design.T, beta=-1)
        return 0.5 * held_out.square().sum() / len(codes)


def _reconstruction(problem: DictionaryProblem, codes: Tensor) -> Tensor:
    return 0.5 * problem.outer_residual(codes).square().sum() / len(codes)


def _lasso(problem: DictionaryProblem, codes: Tensor) -> Tensor:
    """Return the mean over samples of the inner objective at the codes, with the targets, if there
    are some, in place of the observations.
    """
    sizes, weights = codes.abs(), problem.penalty
    # Multiplying the sum by a single penalty takes one product instead of one per code entry.
    several = isinstance(weights, Tensor)
    penalty = ((weights * sizes).sum() if several else weights * sizes.sum()) / len(codes)
    if problem.l2_penalty:
        penalty = penalty + 0.5 * problem.l2_penalty * codes.square().sum() / len(codes)
    return _reconstruction(problem, codes) + penalty


#: Outer losses by name, means over the n samples.
LOSSES = {"lasso": _lasso, "reconstruction": _reconstruction}
