"""Layers of sparse coding and their adjoints, in chunks of samples: dense products, then compiled
code.

With G the Hessian of the smooth part, b = D^T x and eta the step, the layer ``z' = S(y + eta (b - G
y))`` depends on the dictionary D through eta G and eta b alone. Their derivatives are summed over
layers and samples, and turned into one in D at the end, or at once where samples are few. Codes are
dense in the first layers only; there a product with all of G is faster than one with some of its
rows.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Collection, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..problems import SparseCoding
from ..problems.l1 import gram as symmetric
from ..threads import single_thread
from .fista import Fista, following
from .thresholding import Hard

#: Number of samples that are treated together, and memory that they may take if all layers are
#: dense. Sums over samples are in the order of these chunks.
CHUNK, CHUNK_BYTES = 250, 1 << 27
#: Share of non-zero code entries above which a chunk's layer is a dense product.
DENSE = 0.38
#: Number of a gradient's layers, over all samples, per atom, up to which no matrix for pairs of
#: atoms is made.
COLUMNWISE = 5


class Job(NamedTuple):
    """A pull-back from layer `top`, where it starts from the loss, to layer `bottom`."""

    top: int
    bottom: int


class Result(NamedTuple):
    """States that were kept, and the outcome of the jobs."""

    states: dict[int, Any]
    #: Derivatives in D through the layers of each job, shape (jobs, m, p).
    gradients: Tensor
    #: Sums of the norms of the two terms that each of them is made of.
    magnitudes: list[float]
    #: Adjoints of codes and point at the first state for each job, shape (jobs, 2, n, p); empty
    #: unless they were given.
    adjoints: Tensor


@torch.no_grad()
@single_thread()
def direct_gradient(problem: SparseCoding, codes: Tensor) -> Tensor:
    """Return the partial derivative of the outer loss in the dictionary: with r = D z - x the mean
    of ``r z^T``.
    """
    return problem.residual(codes).T @ codes / len(codes)


@torch.no_grad()
@single_thread()
def direct_gradients(problem: SparseCoding, codes: Tensor) -> tuple[Tensor, Tensor]:
    """Return that of `direct_gradient`, and the one in the codes: the mean of ``D^T r``; the lasso
    adds its penalties'.
    """
    residual = problem.residual(codes)
    direct, code_gradient = residual.T @ codes / len(codes), residual @ problem.dictionary
    if problem.loss == "lasso":
        # One number for all atoms: others take the torch path.
        penalty: Any = problem.penalty
        code_gradient = code_gradient.add_(codes.sign(), alpha=penalty).add_(
            codes, alpha=problem.l2_penalty
        )
    return direct, code_gradient / len(codes)


def norms(matrices: Tensor) -> Tensor:
    """Return the Frobenius norms of matrices, shape (k, m, p), in double precision where squares
    may underflow.
    """
    plain = torch.linalg.norm(matrices, dim=(1, 2))
    small = bool((plain < torch.finfo(plain.dtype).tiny ** 0.4).any())
    return torch.linalg.norm(matrices, dim=(1, 2), dtype=torch.float64) if small else plain.double()


@torch.no_grad()
@single_thread()
def run_and_pull(
    problem: SparseCoding,
    algorithm: Any,
    state: Any,
    depth: int,
    keep: Collection[int] = (),
    jobs: Sequence[Job] = (),
    adjoints: Tensor | None = None,
) -> Result:
    """Run `depth` layers from a state, keeping those in `keep` and the last, and carry out the
    jobs.

    `adjoints`, shape (jobs, 2, n, p), takes the place of the loss's derivatives in the codes, and
    in the point, at the tops.
    """
    step = algorithm.step_size(problem)
    problem = problem.with_theta(problem.theta.detach().contiguous())
    gram = symmetric(problem.dictionary).mul_(step)
    gram.diagonal().add_(step * problem.l2_penalty)
    (n, p), kept = problem.code_shape, sorted({*keep, depth})
    momenta, accelerated = [state.momentum], isinstance(algorithm, Fista)
    for _ in range(depth):
        momenta.append(following(momenta[-1]) if accelerated else momenta[-1])
    codes = gram.new_empty(len(kept), n, p)
    points = torch.empty_like(codes) if accelerated else codes
    theta_bar = gram.new_zeros(len(jobs), *problem.dictionary.shape)
    # Codes of few samples concern few pairs of atoms.
    columnwise = len(jobs) == 1 and n * depth < COLUMNWISE * p
    columns = problem.dictionary.T.contiguous() if columnwise else gram.new_empty(0, 0)
    columns_bar, atoms = torch.zeros_like(columns), 0 if columnwise else p
    # Jobs are the last axis in memory for compiled code, the first for dense products.
    gram_bar = gram.new_zeros(atoms, atoms, len(jobs)).movedim(2, 0)
    dense_bar = gram_bar if len(jobs) == 1 else gram.new_zeros(len(jobs), p, p)
    returned = gram.new_empty(0) if adjoints is None else torch.zeros_like(adjoints)
    totals = _Totals(gram_bar, dense_bar, columns, columns_bar)
    layer_bytes = p * gram.element_size() * (2 if accelerated else 1)
    size = max(min(CHUNK, CHUNK_BYTES // (max(depth, 1) * layer_bytes)), 1) if jobs else CHUNK
    for first in range(0, n, size):
        rows = slice(first, min(first + size, n))
        part = problem.with_samples(observations=problem.observations[rows].detach().contiguous())
        products = part.adjoint(part.observations).mul_(step)
        own = (
            gram.new_zeros(len(jobs), *products.shape),
            gram.new_zeros(len(jobs), 2, *products.shape),
        )
        chunk = _Chunk(
            part,
            algorithm,
            step,
            gram,
            products,
            n,
            momenta,
            jobs,
            totals,
            adjoints is not None,
            *own,
        )
        start = state.mapped(lambda tensor, rows=rows: tensor[rows].detach().contiguous())
        if adjoints is not None:
            chunk.carried.copy_(adjoints[:, :, rows])
        dense = chunk.run_dense(start, kept)
        for place, layer in enumerate(kept):
            if layer < len(dense):
                codes[place, rows], points[place, rows] = dense[layer].codes, dense[layer].point
        if len(dense) <= depth:
            chunk.run_compiled(dense[-1], len(dense) - 1, kept, first, codes, points)
        if jobs:
            chunk.pull_dense(dense)
        theta_bar += part.observations.T @ chunk.products_bar
        if adjoints is not None:
            returned[:, :, rows] = chunk.carried
    if dense_bar is not gram_bar:
        gram_bar = dense_bar.add_(gram_bar)
    # eta D^T D depends on D through both factors.
    pairwise = (
        columns_bar.T[None]
        if columnwise
        else torch.from_numpy(problem.dictionary.numpy() @ (gram_bar + gram_bar.mT).numpy())
    )
    through_gram, through_products = pairwise.mul_(step), theta_bar.mul_(step)
    magnitudes = norms(through_gram) + norms(through_products)
    states = {}
    for place, layer in enumerate(kept):
        z = codes[place]
        point = points[place] if accelerated else z
        at = {"momentum": momenta[layer], "iteration": state.iteration + layer}
        states[layer] = dataclasses.replace(state, codes=z, point=point, **at) if layer else state
    return Result(states, through_gram.add_(through_products), magnitudes.tolist(), returned)


class _Totals(NamedTuple):
    """Where derivatives are added, over all samples."""

    gram_bar: Tensor
    dense_bar: Tensor
    #: Columns of the dictionary, if derivatives are added to `columns_bar` in place of the others.
    columns: Tensor
    columns_bar: Tensor


@dataclasses.dataclass(frozen=True, eq=False)
class _Chunk:
    """Some samples, with what their layers need: eta G, eta b, the number of all samples, the
    momentum at every layer of the run.
    """

    problem: SparseCoding
    algorithm: Any
    step: float
    gram: Tensor
    products: Tensor
    samples: int
    momenta: list[float]
    jobs: Sequence[Job]
    totals: _Totals
    #: Whether the jobs start from adjoints that are given; those, shape (jobs, 2, r, p), at the
    #: layer that has been reached; derivatives in eta b, shape (jobs, r, p).
    given: bool
    products_bar: Tensor
    carried: Tensor

    def smooth_gradient(self, point: Tensor) -> Tensor:
        """Return a layer's step, ``eta (G y - b)``: to the algorithm, a chunk is the problem."""
        return torch.addmm(self.products, point, self.gram, beta=-1)

    def prox(self, values: Tensor, _: float, thresholding: Any, iteration: int) -> Tensor:
        return self.problem.prox(values, self.step, thresholding, iteration)

    @property
    def pulls(self) -> list[float]:
        """The factor c of each layer's extrapolation ``y = z + c (z - z_before)``, zero before the
        first.
        """
        return [0.0, *((now - 1) / later for now, later in itertools.pairwise(self.momenta))]

    @property
    def accelerated(self) -> bool:
        return isinstance(self.algorithm, Fista)

    def run_dense(self, state: Any, keep: list[int]) -> list[Any]:
        """Return the states up to the first whose codes are sparse, or the last; None for those
        that nothing needs.
        """
        states = [state]
        while len(states) < len(self.momenta):
            density = np.count_nonzero(state.point.numpy() != 0) / state.point.numel()
            # From all-zero codes the first layer leads to dense ones.
            if density < DENSE and (density or len(states) > 1):
                break
            if not self.jobs and len(states) - 1 not in keep:
                states[-1] = None
            # The step is part of the products.
            state = self.algorithm.advance(self, state, 1.0)
            states.append(state)
        return states

    def run_compiled(
        self,
        state: Any,
        offset: int,
        keep: list[int],
        first: int,
        codes: Tensor,
        points: Tensor,
    ) -> None:
        """Run the layers from `offset` on and the jobs down to there; write the states of the
        layers in `keep` from sample `first` on.
        """
        compiled, rule, number = (
            _compiled(),
            self.algorithm.thresholding,
            self.gram.numpy().dtype.type,
        )
        lasso, penalty = self.problem.loss == "lasso", self.problem.penalty
        thresholds = [
            rule.cutoff(self.step * penalty, state.iteration + layer)
            for layer in range(len(self.momenta) - 1 - offset)
        ]
        program = compiled.Program(
            gram=self.gram.numpy(),
            products=self.products.numpy(),
            thresholds=np.array(thresholds, number),
            pulls=np.array(self.pulls[offset + 1 :], number),
            step=number(self.step),
            samples=number(self.samples),
            l1_weight=number(penalty if lasso else 0),
            l2_weight=number(0 if lasso else -self.problem.l2_penalty),
            hard=isinstance(rule, Hard),
            nonnegative=self.problem.nonnegative,
            accelerated=self.accelerated,
        )
        tops, bottoms = (
            np.array([max(layer - offset, 0) for layer in layers], np.int64)
            for layers in ([job.top for job in self.jobs], [job.bottom for job in self.jobs])
        )
        later = [layer - offset for layer in keep if layer > offset]
        kept = [tensor[len(keep) - len(later) :].numpy() for tensor in (codes, points)]
        totals = self.totals
        compiled.run_layers(
            program,
            state.codes.contiguous().numpy(),
            state.point.contiguous().numpy(),
            compiled.Jobs(tops, bottoms, self.given, self.carried.numpy()),
            compiled.Totals(
                totals.gram_bar.movedim(0, 2).numpy(),
                self.products_bar.numpy(),
                totals.columns.numpy(),
                totals.columns_bar.numpy(),
            ),
            compiled.Kept(np.array(later, np.int64), first, *kept),
        )

    def pull_dense(self, states: list[Any]) -> None:
        """Carry out the jobs below the last of the states."""
        last, pulls, totals, carried = len(states) - 1, self.pulls, self.totals, self.carried
        restrict = _compiled().restrict
        # The derivative in G through a layer that starts from zero codes is zero.
        filled = int(not states[0].point.any())
        # One job after another, so that its adjoints stay in the cache.
        for k, job in enumerate(self.jobs):
            top = min(job.top, last)
            current, of_point = carried[k]
            if not self.given and job.top <= last:
                # The mean over this part of the samples, as a part of that over all.
                share = len(self.products) / self.samples
                current = direct_gradients(self.problem, states[top].codes)[1] * share
                of_point = torch.zeros_like(current)
            current, before = current + (1 + pulls[top]) * of_point, -pulls[top] * of_point
            for t in range(top - 1, job.bottom - 1, -1):
                restrict(current.numpy(), states[t + 1].codes.numpy(), self.products_bar[k].numpy())
                if t >= filled and len(totals.columns):
                    columns, columns_bar = totals.columns, totals.columns_bar
                    columns_bar.addmm_(current.T, states[t].point @ columns, alpha=-1)
                    columns_bar.addmm_(states[t].point.T, current @ columns, alpha=-1)
                elif t >= filled:
                    totals.dense_bar[k].addmm_(states[t].point.T, current, alpha=-1)
                if t == 0 and not self.given:
                    break
                current = torch.addmm(current, current, self.gram, alpha=-1)
                if t == 0:
                    carried[k, 1] = current
                    carried[k, 0] = before if self.accelerated else 0
                elif self.accelerated:
                    current, before = before + (1 + pulls[t]) * current, -pulls[t] * current


@cache
def _compiled() -> Any:
    from . import compiled

    return compiled
