"""Problems: an outer parameter, an inner objective (smooth part and penalty), and an outer loss of the codes."""

from __future__ import annotations

import copy
import functools
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .active_set import solve_active_systems
from .errors import InvalidArgument
from .thresholding import Thresholding
from .validation import check_alike, check_choice, check_positive, check_tensor


class Problem(ABC):
    """A loss that depends on its parameter both directly and through the output of an inner algorithm.

    The inner problem is ``z(theta) = argmin_z f(z, theta) + h(z, theta)`` for every sample, with f smooth and h a penalty
    with a proximal map; the outer loss is the mean over samples of ``loss(z, theta)``. Problems are immutable; a copy at
    another parameter comes from `with_theta`. A concrete problem is a frozen dataclass that keeps its parameter in the
    field named by `parameter`.
    """

    parameter: str

    @property
    def theta(self) -> Tensor:
        """The outer parameter, the thing gradients are taken with respect to."""
        return getattr(self, self.parameter)

    def with_theta(self, theta: Tensor) -> Problem:
        """Return a copy at another value of the parameter.

        A `curvature` that was already computed is kept: an unrolled program's step is a constant of that program, and
        must not move while the program is differentiated. A new problem at a new parameter is made by its constructor.
        """
        other = copy.copy(self)
        for name, value in self.fields_at(theta).items():
            object.__setattr__(other, name, value)
        return other

    def fields_at(self, theta: Tensor) -> dict[str, Any]:
        """Fields that hold a value of the parameter: the one named by `parameter`, unless overridden."""
        return {self.parameter: theta}

    @property
    @abstractmethod
    def code_shape(self) -> tuple[int, ...]:
        """Shape of the codes, samples first."""

    @property
    @abstractmethod
    def curvature(self) -> float:
        """Largest curvature L of the smooth part: the largest eigenvalue of its Hessian, maximised over samples."""

    @property
    def curvature_bound(self) -> float:
        """Upper bound on `curvature`, itself unless overridden where a bound is much cheaper."""
        return self.curvature

    @abstractmethod
    def smooth_gradient(self, codes: Tensor) -> Tensor:
        """Gradient of f in the codes, per sample; same shape as the codes."""

    @abstractmethod
    def prox(self, values: Tensor, step: float, thresholding: Thresholding, iteration: int) -> Tensor:
        """Proximal map of ``step * h`` as the algorithm's thresholding rule carries it out at that iteration (from 0)."""

    @abstractmethod
    def outer_loss(self, codes: Tensor) -> Tensor:
        """Mean over samples of the outer loss; a scalar, differentiable in the codes and in theta."""

    @abstractmethod
    def active(self, codes: Tensor) -> Tensor:
        """Boolean mask of the code entries on which the penalty is smooth: the support."""

    @abstractmethod
    def stationarity(self, codes: Tensor) -> Tensor:
        """Gradient of f + h on the active entries (elsewhere arbitrary): zero there at a minimiser."""

    @abstractmethod
    def solve_active(self, codes: Tensor, right_hand_side: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """Solve ``H_SS v_S = r_S`` per sample, H the Hessian of f and S the active set; zero off S.

        Returns
        -------
        solution : Tensor
            Shape of the codes.
        diagnostics : dict
            At least ``condition_number``, the largest over samples, and ``singular``, the count of singular systems
            that were solved in the minimum-norm sense.
        """

    def initial_codes(self) -> Tensor:
        """All-zero codes with the parameter's dtype and device."""
        return torch.zeros(self.code_shape, dtype=self.theta.dtype, device=self.theta.device)


class L1Problem(Problem):
    """Least squares with an l1 penalty on the codes: what the problems of the sparse coding family share.

    The inner problem, per sample x, is ``argmin_z 1/2 |A z - x|^2 + l2_penalty/2 |z|^2 + penalty |z|_1``, A being linear
    (over z >= 0 where `nonnegative`). A concrete class has `penalty` and `nonnegative` as fields or properties, and says
    what A is by `residual` and `adjoint`.

    Attributes
    ----------
    penalty : float or Tensor
        Weight of the l1 norm; a tensor broadcasts against the codes.
    nonnegative : bool
        Whether the codes are restricted to the non-negative orthant.
    l2_penalty : float
        Weight of half the squared l2 norm, which is part of f: positive for the elastic net.
    targets : Tensor or None
        What the outer loss compares ``A z`` with, where that is not the observations.
    """

    penalty: float | Tensor
    nonnegative: bool
    l2_penalty: float = 0.0
    targets: Tensor | None = None

    @abstractmethod
    def residual(self, codes: Tensor) -> Tensor:
        """``A z - x`` per sample; shape of the observations."""

    @abstractmethod
    def adjoint(self, residual: Tensor) -> Tensor:
        """``A^T r`` per sample; shape of the codes."""

    def outer_residual(self, codes: Tensor) -> Tensor:
        """``A z - y`` per sample, y being the targets, or the observations where there are none."""
        return self.residual(codes)

    def smooth_gradient(self, codes: Tensor) -> Tensor:
        gradient = self.adjoint(self.residual(codes))
        return gradient + self.l2_penalty * codes if self.l2_penalty else gradient

    def prox(self, values: Tensor, step: float, thresholding: Thresholding, iteration: int) -> Tensor:
        return thresholding(values, step * self.penalty, iteration, self.nonnegative)

    def active(self, codes: Tensor) -> Tensor:
        return codes != 0

    def stationarity(self, codes: Tensor) -> Tensor:
        return self.smooth_gradient(codes) + self.penalty * codes.sign()


def _lasso(problem: L1Problem, codes: Tensor) -> Tensor:
    sizes = codes.abs()
    # One penalty is one product, and not as many as there are codes.
    weighted = (problem.penalty * sizes).sum() if isinstance(problem.penalty, Tensor) else problem.penalty * sizes.sum()
    penalty = weighted / len(codes)
    if problem.l2_penalty:
        penalty = penalty + 0.5 * problem.l2_penalty * codes.square().sum() / len(codes)
    return _reconstruction(problem, codes) + penalty


def _reconstruction(problem: L1Problem, codes: Tensor) -> Tensor:
    return 0.5 * problem.outer_residual(codes).square().sum() / len(codes)


#: Outer losses of `SparseCoding` and `ConvolutionalSparseCoding`, by name. Both are means over the n samples.
SPARSE_CODING_LOSSES: dict[str, Callable[[L1Problem, Tensor], Tensor]] = {
    "lasso": _lasso,
    "reconstruction": _reconstruction,
}


def solve_dense(
    problem: L1Problem, hessian: Tensor, codes: Tensor, right_hand_side: Tensor
) -> tuple[Tensor, dict[str, Any]]:
    """Solve the active systems of a Hessian (p, p) that all samples share; see `Problem.solve_active`."""
    systems = solve_active_systems(hessian, problem.active(codes), right_hand_side)
    return systems.solution, {
        "condition_number": float(systems.condition_numbers.max()),
        "singular": int(systems.singular.sum()),
    }


def largest_gram_eigenvalue(matrix: Tensor) -> float:
    """Largest eigenvalue of ``A^T A``, from the smaller of the two Gram matrices."""
    matrix = matrix.detach()
    rows, columns = matrix.shape
    smaller = matrix @ matrix.T if rows < columns else matrix.T @ matrix
    return float(torch.linalg.eigvalsh(smaller)[-1])


@dataclass(frozen=True, eq=False, kw_only=True)
class SparseCoding(L1Problem):
    """Sparse coding of observations in a dictionary, the dictionary being the outer parameter.

    The inner problem, per sample x, is ``z(D) = argmin_z 1/2 |x - D z|^2 + penalty |z|_1`` (over z >= 0 where
    `nonnegative`); with an `l2_penalty` it is the elastic net, ``l2_penalty/2 |z|^2`` being added to its smooth part. The
    outer loss is a mean over samples: ``lasso`` is the inner objective itself, ``reconstruction`` is ``1/2 |x - D z|^2``.

    Parameters
    ----------
    observations : Tensor, shape (n, m)
        Samples as rows.
    dictionary : Tensor, shape (m, p)
        Atoms as columns. The gradient has this shape.
    penalty : float
        Weight of the l1 norm, > 0.
    loss : {"lasso", "reconstruction"}
        Outer loss.
    nonnegative : bool
        Restrict the codes to the non-negative orthant.
    l2_penalty : float
        Weight of half the squared l2 norm, >= 0; zero for the lasso.
    generating_dictionary : Tensor, shape (m, p), optional
        The dictionary that generated the observations; needed for the targets gstar and gtilde.
    generating_codes : Tensor, shape (n, p), optional
        The codes that generated them; needed for the target gtilde.

    Raises
    ------
    InvalidArgument
        For tensors that are not finite floating tensors of fitting shapes, penalty <= 0 or l2_penalty < 0.

    References
    ----------
    Tolooshams and Ba, "Stable and Interpretable Unrolled Dictionary Learning", TMLR 2022.
    Zou and Hastie, "Regularization and variable selection via the elastic net", JRSS B 2005.
    """

    observations: Tensor
    dictionary: Tensor
    penalty: float
    loss: str = "lasso"
    nonnegative: bool = False
    l2_penalty: float = 0.0
    generating_dictionary: Tensor | None = None
    generating_codes: Tensor | None = None

    parameter = "dictionary"

    @staticmethod
    def dictionary_of(theta: Tensor) -> Tensor:
        """The dictionary in a value of the parameter, here all of it."""
        return theta

    def __post_init__(self) -> None:
        def convert(name: str, shape: str) -> Tensor:
            tensor = check_tensor(name, getattr(self, name), shape)
            object.__setattr__(self, name, tensor)
            return tensor

        x, d = convert("observations", "(n, m)"), convert("dictionary", "(m, p)")
        check_alike("dictionary", d, "observations", x)
        if d.shape[0] != x.shape[1]:
            raise InvalidArgument(
                f"dictionary has shape {tuple(d.shape)} and observations {tuple(x.shape)}: dictionary needs as many rows as "
                f"observations has columns ({x.shape[1]}); atoms are columns, samples are rows"
            )
        object.__setattr__(self, "penalty", check_positive("penalty", self.penalty))
        object.__setattr__(self, "l2_penalty", check_positive("l2_penalty", self.l2_penalty, allow_zero=True))
        check_choice("loss", self.loss, SPARSE_CODING_LOSSES)
        for name, shape in (("generating_dictionary", d.shape), ("generating_codes", (len(x), d.shape[1]))):
            if getattr(self, name) is not None:
                tensor = convert(name, "(m, p)")
                check_alike(name, tensor, "observations", x)
                if tensor.shape != shape:
                    raise InvalidArgument(
                        f"{name} has shape {tuple(tensor.shape)}: it must be {tuple(shape)} to fit the others"
                    )

    @property
    def code_shape(self) -> tuple[int, int]:
        return len(self.observations), self.dictionary.shape[1]

    @property
    def gram(self) -> Tensor:
        """Gram matrix ``D^T D`` of the atoms, shape (p, p), without gradient."""
        dictionary = self.dictionary.detach()
        return dictionary.T @ dictionary

    @property
    def hessian(self) -> Tensor:
        """Hessian ``D^T D + l2_penalty I`` of the smooth part, shape (p, p), without gradient."""
        return self.gram + self.l2_penalty * torch.eye(len(self.gram)).to(self.gram) if self.l2_penalty else self.gram

    @functools.cached_property
    def curvature(self) -> float:
        return largest_gram_eigenvalue(self.dictionary) + self.l2_penalty

    def residual(self, codes: Tensor) -> Tensor:
        """``z D^T - x`` per sample, shape (n, m)."""
        return torch.addmm(self.observations, codes, self.dictionary.T, beta=-1)

    def adjoint(self, residual: Tensor) -> Tensor:
        """``r D`` per sample, shape (n, p)."""
        return residual @ self.dictionary

    def outer_loss(self, codes: Tensor) -> Tensor:
        return SPARSE_CODING_LOSSES[self.loss](self, codes)

    def solve_active(self, codes: Tensor, right_hand_side: Tensor) -> tuple[Tensor, dict[str, Any]]:
        return solve_dense(self, self.hessian, codes, right_hand_side)


@dataclass(frozen=True, eq=False, kw_only=True)
class Ridge(Problem):
    """Ridge regression with its strength as the outer parameter: smooth, with an exact closed form at every depth.

    The inner problem, per sample x, is ``z(theta) = argmin_z 1/2 |x - D z|^2 + (strength + theta)/2 |z|^2``; the outer
    loss is the mean over samples of ``c^T z``. At ``theta = 0``, ``dz/dtheta = -(D^T D + strength I)^{-1} z``.

    Parameters
    ----------
    observations : Tensor, shape (n, m)
    dictionary : Tensor, shape (m, p)
    strength : float
        The curvature mu_0 that theta adds to, >= 0.
    weights : Tensor, shape (p,)
        The vector c of the outer loss.
    theta : Tensor, shape (), optional
        The outer parameter; zero where not given.

    References
    ----------
    Scieur, Bertrand, Gidel and Pedregosa, "The Curse of Unrolling", NeurIPS 2022.
    """

    observations: Tensor
    dictionary: Tensor
    strength: float
    weights: Tensor
    theta: Tensor = None  # type: ignore[assignment]  # zero where not given; takes the place of the base's property

    parameter = "theta"

    def __post_init__(self) -> None:
        x = check_tensor("observations", self.observations, "(n, m)")
        d = check_tensor("dictionary", self.dictionary, "(m, p)")
        c = check_tensor("weights", self.weights, "(p,)")
        theta = check_tensor("theta", x.new_zeros(()) if self.theta is None else self.theta, "()")
        for name, tensor in (("dictionary", d), ("weights", c), ("theta", theta)):
            check_alike(name, tensor, "observations", x)
        if d.shape[0] != x.shape[1] or d.shape[1] != len(c):
            raise InvalidArgument(
                f"shapes do not fit: observations {tuple(x.shape)}, dictionary {tuple(d.shape)}, weights {tuple(c.shape)}; "
                f"give (n, m), (m, p) and (p,)"
            )
        check_positive("strength", self.strength, allow_zero=True)
        for name, tensor in (("observations", x), ("dictionary", d), ("weights", c), ("theta", theta)):
            object.__setattr__(self, name, tensor)
        if self.extreme_curvatures[0] <= 0:
            raise InvalidArgument("strength + theta leaves the inner problem flat: give a larger strength")

    @property
    def code_shape(self) -> tuple[int, int]:
        return len(self.observations), self.dictionary.shape[1]

    @property
    def hessian(self) -> Tensor:
        """``D^T D + (strength + theta) I``, shape (p, p), differentiable in theta."""
        identity = torch.eye(len(self.weights), dtype=self.weights.dtype, device=self.weights.device)
        return self.dictionary.T @ self.dictionary + (self.strength + self.theta) * identity

    @functools.cached_property
    def extreme_curvatures(self) -> tuple[float, float]:
        """Smallest and largest eigenvalue of the Hessian."""
        values = torch.linalg.eigvalsh(self.hessian.detach())
        return float(values[0]), float(values[-1])

    @property
    def curvature(self) -> float:
        return self.extreme_curvatures[1]

    def smooth_gradient(self, codes: Tensor) -> Tensor:
        residual = torch.addmm(self.observations, codes, self.dictionary.T, beta=-1)
        return residual @ self.dictionary + (self.strength + self.theta) * codes

    def prox(self, values: Tensor, step: float, thresholding: Thresholding, iteration: int) -> Tensor:
        return values

    def outer_loss(self, codes: Tensor) -> Tensor:
        return (codes @ self.weights).mean()

    def active(self, codes: Tensor) -> Tensor:
        return torch.ones_like(codes, dtype=torch.bool)

    def stationarity(self, codes: Tensor) -> Tensor:
        return self.smooth_gradient(codes)

    def solve_active(self, codes: Tensor, right_hand_side: Tensor) -> tuple[Tensor, dict[str, Any]]:
        smallest, largest = self.extreme_curvatures
        solution = torch.linalg.solve(self.hessian.detach(), right_hand_side.T).T
        return solution, {"condition_number": largest / smallest, "singular": 0}
