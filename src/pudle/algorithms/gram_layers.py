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
from .momentum import MARGIN, following
from .thresholding import Decaying, Hard

#: Number of samples that are treated together, and memory that they may take if all layers are
#: dense. Sums over samples are in the order of these chunks.
CHUNK, CHUNK_BYTES = 250, 1 << 27
#: Share of non-zero code entries above which a chunk's layer is a dense product.
DENSE = 0.38
#: Number of a gradient's layers, over all samples, per atom, up to which no matrix for pairs of
#: atoms is made.
COLUMNWISE = 5


class Job(NamedTuple):
    """A pull-back from layer `top` to layer `bottom`.

    It starts from the loss at its top if `chain` is its own index, else from where the job before
    it in that chain ended.
    """

    top: int
    bottom: int
    chain: int


class Result(NamedTuple):
    """States that were kept, and what the jobs have found."""

    states: dict[int, Any]
    #: Derivatives in D through the layers of each job, shape (jobs, m, p).
    gradients: Tensor
    #: Sums of the norms of the two terms that each of them is made of.
    magnitudes: list[float]
    #: Adjoints of codes and point at the first state for each chain, shape (jobs, 2, n, p); empty
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
    found = torch.linalg.norm(matrices, dim=(1, 2))
    small = bool((found < torch.finfo(found.dtype).tiny ** 0.4).any())
    return torch.linalg.norm(matrices, dim=(1, 2), dtype=torch.float64) if small else found.double()


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
    problem, step = (
        problem.with_theta(problem.theta.detach().contiguous()),
        algorithm.step_size(problem),
    )
    matrix = problem.dictionary.numpy()
    gram = symmetric(problem.dictionary).mul_(step)
    gram.diagonal().add_(step * problem.l2_penalty)
    (n, p), kept = problem.code_shape, sorted({*keep, depth})
    codes = gram.new_empty(len(kept), n, p)
    points = gram.new_empty(len(kept), n, p) if algorithm.name == "fista" else codes
    momenta = gram.new_ones(len(kept), n)
    theta_bar = gram.new_zeros(len(jobs), *problem.dictionary.shape)
    # Codes of few samples concern few pairs of atoms.
    columnwise = len(jobs) == 1 and n * depth < COLUMNWISE * p
    columns = problem.dictionary.T.contiguous() if columnwise else gram.new_empty(0, 0)
    columns_bar, atoms = torch.zeros_like(columns), 0 if columnwise else p
    # Jobs are the last axis in memory for compiled code, the first for dense products.
    gram_bar = gram.new_zeros(atoms, atoms, len(jobs)).movedim(2, 0)
    dense_bar = gram_bar if len(jobs) == 1 else gram.new_zeros(len(jobs), p, p)
    returned = gram.new_empty(0) if adjoints is None else torch.zeros_like(adjoints)
    layer_bytes = p * gram.element_size() * (1 if points is codes else 2)
    size = max(min(CHUNK, CHUNK_BYTES // (max(depth, 1) * layer_bytes)), 1) if jobs else CHUNK
    for first in range(0, n, size):
        rows = slice(first, min(first + size, n))
        part = problem.with_theta(problem.dictionary)
        object.__setattr__(part, "observations", problem.observations[rows].detach().contiguous())
        # Compiled code is compiled anew for other layouts and dtypes.
        momentum = (
            state.momentum[rows].to(gram.dtype)
            if isinstance(state.momentum, Tensor)
            else state.momentum
        )
        codes_here, point_here = (
            tensor[rows].detach().contiguous() for tensor in (state.codes, state.point)
        )
        fields = {"codes": codes_here, "point": point_here, "momentum": momentum}
        products, derivatives = (
            part.adjoint(part.observations).mul_(step),
            (gram_bar, dense_bar, columns_bar),
        )
        chunk = _Chunk(part, algorithm, step, gram, products, n, jobs, columns, *derivatives)
        dense = chunk.run_dense(dataclasses.replace(state, **fields), depth, kept)
        for place, layer in enumerate(kept):
            if layer < len(dense):
                codes[place, rows], points[place, rows] = dense[layer].codes, dense[layer].point
                if isinstance(momentum, Tensor):
                    momenta[place, rows] = dense[layer].momentum.squeeze(1)
        given = None if adjoints is None else adjoints[:, :, rows].contiguous()
        products_bar, carried = chunk.run_compiled(
            dense[-1], len(dense) - 1, depth, kept, first, (codes, points, momenta), given
        )
        chunk.pull_dense(dense, products_bar, carried, given)
        theta_bar += part.observations.T @ products_bar
        if adjoints is not None:
            returned[:, :, rows] = carried
    if dense_bar is not gram_bar:
        gram_bar = dense_bar.add_(gram_bar)
    # eta D^T D depends on D through both factors.
    pairwise = (
        columns_bar.T[None]
        if columnwise
        else torch.from_numpy(matrix @ (gram_bar + gram_bar.mT).numpy())
    )
    through_gram = pairwise.mul_(step)
    through_products = theta_bar.mul_(step)
    magnitudes = norms(through_gram) + norms(through_products)

    states, momentum = {}, state.momentum
    for layer in range(depth + 1):
        if layer in kept:
            place = kept.index(layer)
            of_state = momenta[place][:, None] if isinstance(momentum, Tensor) else momentum
            point = codes[place] if points is codes else points[place]
            fields = {
                "codes": codes[place],
                "point": point,
                "momentum": of_state,
                "iteration": state.iteration + layer,
            }
            states[layer] = dataclasses.replace(state, **fields) if layer else state
        if algorithm.name == "fista" and not isinstance(momentum, Tensor):
            momentum = following(momentum)
    return Result(states, through_gram.add_(through_products), magnitudes.tolist(), returned)


def _pull(before: Any, after: Any) -> Any:
    """Return the factor c of the extrapolation ``y = z + c (z - z_before)``; zero where a sample
    has restarted.
    """
    pull = (before.momentum - 1) / after.momentum
    return torch.where(after.momentum == 1, 0, pull) if isinstance(pull, Tensor) else pull


@dataclasses.dataclass(frozen=True, eq=False)
class _Chunk:
    """Some samples, with what their layers need: eta G, eta b, the number of all samples, and where
    results are added.
    """

    problem: Any
    algorithm: Any
    step: float
    gram: Tensor
    products: Tensor
    samples: int
    jobs: Sequence[Job]
    #: Columns of the dictionary, if derivatives are added to `columns_bar` in place of `gram_bar`
    #: and `dense_bar`.
    columns: Tensor
    gram_bar: Tensor
    dense_bar: Tensor
    columns_bar: Tensor

    def smooth_gradient(self, point: Tensor) -> Tensor:
        """Return the step of a layer, ``eta (G y - b)``: to the algorithm, a chunk is the problem."""
        return torch.addmm(self.products, point, self.gram, beta=-1)

    def prox(self, values: Tensor, _: float, thresholding: Any, iteration: int) -> Tensor:
        return thresholding(
            values, self.step * self.problem.penalty, iteration, self.problem.nonnegative
        )

    def run_dense(self, state: Any, depth: int, keep: list[int]) -> list[Any]:
        """Return the states up to the first whose codes are sparse, or the last; None for those
        that nothing needs.
        """
        states = [state]
        while len(states) <= depth:
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
        depth: int,
        keep: list[int],
        first: int,
        kept: tuple[Tensor, ...],
        given: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Run the layers from `offset` on and the jobs down to there; return the derivatives in eta
        b and the adjoints.
        """
        r, p = self.products.shape
        layers, rule, lasso = (
            depth - offset,
            self.algorithm.thresholding,
            self.problem.loss == "lasso",
        )
        products_bar = self.gram.new_zeros(len(self.jobs), r, p)
        carried = self.gram.new_zeros(len(self.jobs), 2, r, p) if given is None else given.clone()
        if layers == 0:
            return products_bar, carried
        thresholds = [self.step * self.problem.penalty] * layers
        if type(rule) is Decaying:
            thresholds = [
                thresholds[0] * rule.decay**t
                for t in range(state.iteration, state.iteration + layers)
            ]
        elif type(rule) is Hard and rule.threshold is not None:
            thresholds = [rule.threshold] * layers
        accelerated, restart = self.algorithm.name == "fista", isinstance(state.momentum, Tensor)
        momenta = [1.0 if restart else state.momentum]
        for _ in range(layers):
            momenta.append(following(momenta[-1]))
        pulls = [(now - 1) / later for now, later in itertools.pairwise(momenta)]
        momentum = state.momentum.reshape(r).contiguous() if restart else self.gram.new_ones(r)
        weights = self.problem.penalty * lasso, -self.problem.l2_penalty * (not lasso)
        numbers = [1, self.step, self.samples, *weights, MARGIN]
        flags = [
            type(rule) is Hard,
            self.problem.nonnegative,
            accelerated,
            restart,
            given is not None,
        ]
        bounds = (
            [max(job.top - offset, 0) for job in self.jobs],
            [max(job.bottom - offset, 0) for job in self.jobs],
        )
        later = [place for place, layer in enumerate(keep) if layer > offset]
        floats = (
            torch.tensor(values, dtype=self.gram.dtype).numpy()
            for values in (thresholds, pulls, numbers)
        )
        integers = (np.array(v, np.int64) for v in (*bounds, [job.chain for job in self.jobs]))
        _compiled().run_layers(
            self.gram.numpy(),
            self.products.numpy(),
            state.codes.contiguous().numpy(),
            state.point.contiguous().numpy(),
            momentum.numpy(),
            *floats,
            np.array(flags),
            layers,
            *integers,
            carried.numpy(),
            self.gram_bar.movedim(0, 2).numpy(),
            products_bar.numpy(),
            self.columns.numpy(),
            self.columns_bar.numpy(),
            np.array([keep[place] - offset for place in later], np.int64),
            first,
            *(tensor[len(keep) - len(later) :].numpy() for tensor in kept),
        )
        return products_bar, carried

    def pull_dense(
        self, states: list[Any], products_bar: Tensor, carried: Tensor, given: Tensor | None
    ) -> None:
        """Carry out the jobs below the last of the states; leave the adjoints at the first in
        `carried`.
        """
        if not self.jobs:
            return
        last = len(states) - 1
        pulls = [0.0, *(_pull(*pair) for pair in itertools.pairwise(states))]
        # The derivative in G through a layer that starts from zero codes is zero.
        filled = int(not states[0].point.any())
        restrict = _compiled().restrict
        # One job after another, so that its adjoints stay in the cache.
        for k, job in enumerate(self.jobs):
            top = min(job.top, last)
            if job.chain == k:
                current, of_point = carried[k]
                if given is None and job.top <= last:
                    # The mean over this part of the samples, as a part of that over all.
                    share = len(self.products) / self.samples
                    current = direct_gradients(self.problem, states[top].codes)[1] * share
                    of_point = torch.zeros_like(current)
                current, before = current + (1 + pulls[top]) * of_point, -pulls[top] * of_point
            gram_bar, total = self.dense_bar[k], products_bar[k].numpy()
            for t in range(top - 1, job.bottom - 1, -1):
                restrict(current.numpy(), states[t + 1].codes.numpy(), total)
                if t >= filled and len(self.columns):
                    self.columns_bar.addmm_(current.T, states[t].point @ self.columns, alpha=-1)
                    self.columns_bar.addmm_(states[t].point.T, current @ self.columns, alpha=-1)
                elif t >= filled:
                    gram_bar.addmm_(states[t].point.T, current, alpha=-1)
                if t == 0 and given is None:
                    break
                current = torch.addmm(current, current, self.gram, alpha=-1)
                if t == 0:
                    carried[job.chain, 1] = current
                    carried[job.chain, 0] = before if self.algorithm.name == "fista" else 0
                elif self.algorithm.name == "fista":
                    current, before = before + (1 + pulls[t]) * current, -pulls[t] * current


@cache
def _compiled() -> Any:
    from . import compiled

    return compiled
