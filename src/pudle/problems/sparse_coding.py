"""Sparse coding in a dense dictionary."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import InvalidArgument
from ..validation import check_alike, check_choice, check_positive, check_tensor
from .l1 import SPARSE_CODING_LOSSES, L1Problem, largest_gram_eigenvalue, solve_dense


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
    def lipschitz_constant(self) -> float:
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
