"""Sparse coding in a dense dictionary."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from ..errors import InvalidArgument
from .l1 import DenseL1Problem, DictionaryProblem
from .problem import drawn, drawn_sizes


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
        samples. Exact references are known for the named losses; that of a function is the
        ``limit``.
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

    observations: Tensor
    dictionary: Tensor
    penalty: float | Tensor
    loss: str | Callable[[Tensor, Tensor], Tensor] = "lasso"
    nonnegative: bool = False
    l2_penalty: float = 0.0
    generating_dictionary: Tensor | None = None
    generating_codes: Tensor | None = None

    axes = "(n, m)", "(m, p)", "(n, p)"

    @classmethod
    def specimen(cls, random: np.random.Generator) -> Self:
        """Draw mostly few samples, sometimes thousands, or hundreds of atoms."""
        n, m, p = drawn_sizes(random, 40, 10, 14)
        if (extreme := random.random()) < 0.15:
            n, m, p = random.integers((300, 2, 2), (3000, 6, 7))
        elif extreme < 0.3:
            n, p = int(random.integers(1, 4)), int(60 * 6 ** random.random())
            m = int(4500 / p * random.uniform(0.3, 1))
        nonnegative = random.random() < 0.3
        # Atoms have norms of all magnitudes, and differ in them.
        atoms = random.standard_normal((m, p))
        atoms /= np.linalg.norm(atoms, axis=0)
        atoms = atoms * 10 ** random.uniform(-1, 1) * random.uniform(0.5, 2, p)
        codes = random.standard_normal((n, p)) * (random.random((n, p)) < 0.3)
        if nonnegative:
            codes = np.abs(codes)
        x = codes @ atoms.T + 0.1 * random.standard_normal((n, m))
        # Often in usual units, sometimes in any.
        x *= 10 ** (random.uniform(-1, 1) * random.choice([1, 1, 1, 5]))
        if n > 1 and random.random() < 0.2:
            x[0] = 0
        problem = cls(
            observations=torch.tensor(x),
            dictionary=torch.tensor(atoms) * (1 + 0.1 * drawn(random, m, p)),
            penalty=1.0,
            nonnegative=nonnegative,
            **cls.drawn_truth(random, torch.tensor(atoms), torch.tensor(codes)),
        )
        options = problem.drawn_penalties(random)
        if random.random() < 0.3:
            options["penalty"] *= torch.tensor(random.uniform(0.3, 2, p))
        return dataclasses.replace(problem, **options)

    def _check_sizes(self) -> None:
        x, d = tuple(self.observations.shape), tuple(self.dictionary.shape)
        if d[0] != x[1]:
            raise InvalidArgument(
                f"dictionary has shape {d} and observations {x}: dictionary needs as many rows as"
                f" observations has columns ({x[1]}); atoms are columns, samples are rows"
            )

    def _check_penalty(self) -> float | Tensor:
        if isinstance(self.penalty, Tensor | np.ndarray):
            return self._penalty_of_each("atom", self.dictionary.shape[1])
        return super()._check_penalty()

    @property
    def matrix(self) -> Tensor:
        return self.dictionary
