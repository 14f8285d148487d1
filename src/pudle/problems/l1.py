"""Least squares with an l1 penalty: what the problems of the sparse coding family share."""

import functools
from abc import abstractmethod
from collections.abc import Callable
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ..errors import InvalidArgument
from ..threads import single_thread
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
        return codes != 0

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
    def hessian(self) -> Tensor:
        """Hessian ``A^T A + l2_penalty I`` of the smooth part, shape (p, p), without gradient."""
        matrix = self.matrix.detach()
        gram = matrix.T @ matrix
        return gram + self.l2_penalty * torch.eye(len(gram)).to(gram) if self.l2_penalty else gram

    @functools.cached_property
    @single_thread()
    def lipschitz_constant(self) -> float:
        return float(torch.linalg.eigvalsh(self._smaller_gram())[-1]) + self.l2_penalty

    @single_thread()
    def is_lipschitz(self, constant: float) -> bool:
        computed = vars(self)
        if "lipschitz_constant" in computed or computed.get("_certified") == constant:
            return computed.get("lipschitz_constant", constant) <= constant
        # ``c I - A A^T`` has a Cholesky factor if all eigenvalues are below c: ten times cheaper
        # than the eigenvalues.
        gram = self._smaller_gram().neg_()
        gram.diagonal().add_(constant - self.l2_penalty)
        certified = not torch.linalg.cholesky_ex(gram).info
        if certified:
            computed["_certified"] = constant
        return certified

    def _smaller_gram(self) -> Tensor:
        """Return ``A A^T`` or ``A^T A``, whichever is smaller: their largest eigenvalues are the
        same.
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

    def solve_active(self, codes: Tensor, right_hand_side: Tensor) -> Solution:
        solution, condition, singular = solve_by_cholesky(
            self.hessian, self.active(codes), right_hand_side
        )
        return solution, {"condition_number": condition, "singular": singular}


def gram(matrix: Tensor) -> Tensor:
    """Return ``A^T A`` of a detached matrix; on a CPU by numpy, which knows that it is symmetric
    and halves the work.
    """
    if matrix.device.type != "cpu" or torch._C._functorch.is_functorch_wrapped_tensor(matrix):
        return matrix.T @ matrix
    array = matrix.numpy()
    return torch.from_numpy(array.T @ array)


class DictionaryProblem(L1Problem):
    """An `L1Problem` whose A is made from a dictionary, the outer parameter."""

    dictionary: Tensor
    #: Outer loss, a mean over samples: ``lasso`` is the inner objective, ``reconstruction`` its
    #: term 1/2 |A z - x|^2, a function ``loss(codes, theta)`` whatever it returns.
    loss: str | Callable[[Tensor, Tensor], Tensor]
    #: Tensor y that takes the place of the observations x in the outer loss.
    targets: Tensor | None = None
    generating_dictionary: Tensor | None
    generating_codes: Tensor | None

    parameter = "dictionary"
    per_sample = ("observations", "targets", "generating_codes")
    #: Axes of the observations, of the dictionary and of the codes, for error texts.
    axes: ClassVar[tuple[str, str, str]]

    def dictionary_of(self, theta: Tensor) -> Tensor:
        """Return the dictionary within a value of the parameter, as a view; here it is the whole
        parameter.
        """
        return theta

    def outer_residual(self, codes: Tensor) -> Tensor:
        """Return ``A z - y`` per sample, y being the targets, or the observations without any."""
        return self.residual(codes)

    def outer_loss(self, codes: Tensor) -> Tensor:
        if isinstance(self.loss, str):
            return LOSSES[self.loss](self, codes)
        return check_scalar("loss", self.loss(codes, self.theta))

    def drawn_penalties(self, random: np.random.Generator) -> dict[str, Any]:
        """Draw a penalty, a share of the largest useful one, and an l2_penalty, a share of L."""
        largest = float(self.smooth_gradient(self.initial_codes()).abs().max())
        options = {"penalty": largest * 10 ** random.uniform(-1.5, -0.2)}
        if random.random() < 0.4:
            options["l2_penalty"] = self.lipschitz_constant * random.uniform(0.01, 0.5)
        return options

    @staticmethod
    def drawn_truth(
        random: np.random.Generator, dictionary: Tensor, codes: Tensor
    ) -> dict[str, Any]:
        """Draw whether the generating dictionary and codes are given."""
        truth = {"generating_dictionary": dictionary, "generating_codes": codes}
        return {name: each for name, each in truth.items() if random.random() < 0.4}

    def _check_penalty(self) -> float | Tensor:
        return check_positive("penalty", self.penalty)

    def _penalty_of_each(self, part: str, count: int) -> Tensor:
        """Return one penalty for each part of the dictionary, shape (count,), from one number or
        from a tensor.
        """
        penalty: Any = self.penalty
        if isinstance(penalty, Real):
            penalty = self.dictionary.new_tensor(check_positive("penalty", penalty))
        penalty = check_tensor("penalty", penalty, None).flatten()
        check_alike("penalty", penalty, "dictionary", self.dictionary)
        if len(penalty) not in (1, count) or not (penalty > 0).all():
            raise InvalidArgument(
                f"penalty has {len(penalty)} entries, the smallest {float(penalty.min()):.3g}: give"
                f" one positive number, or {count}, one for each {part}"
            )
        return penalty.expand(count)

    def __post_init__(self) -> None:
        x = self._convert("observations", self.axes[0])
        d = self._convert("dictionary", self.axes[1])
        self._check_sizes()
        check_nonzero("dictionary", d)
        object.__setattr__(self, "penalty", self._check_penalty())
        l2_penalty = check_positive("l2_penalty", self.l2_penalty, allow_zero=True)
        object.__setattr__(self, "l2_penalty", l2_penalty)
        if not callable(self.loss):
            check_choice("loss", self.loss, LOSSES)
        shapes = {"targets": x.shape, "generating_dictionary": d.shape}
        shapes["generating_codes"] = torch.Size(self.code_shape)
        for (name, shape), axes in zip(shapes.items(), self.axes, strict=True):
            if getattr(self, name) is not None:
                self._convert(name, axes, tuple(shape))

    @abstractmethod
    def _check_sizes(self) -> None:
        """Refuse observations and a dictionary that do not fit each other."""


def _reconstruction(problem: DictionaryProblem, codes: Tensor) -> Tensor:
    return 0.5 * problem.outer_residual(codes).square().sum() / len(codes)


def _lasso(problem: DictionaryProblem, codes: Tensor) -> Tensor:
    sizes, weights = codes.abs(), problem.penalty
    # Multiplying the sum by a single penalty takes one product instead of one per code entry.
    several = isinstance(weights, Tensor)
    penalty = ((weights * sizes).sum() if several else weights * sizes.sum()) / len(codes)
    if problem.l2_penalty:
        penalty = penalty + 0.5 * problem.l2_penalty * codes.square().sum() / len(codes)
    return _reconstruction(problem, codes) + penalty


#: Outer losses by name, means over the n samples.
LOSSES = {"lasso": _lasso, "reconstruction": _reconstruction}
