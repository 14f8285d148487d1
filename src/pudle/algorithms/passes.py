"""Layers of sparse coding, and back through them, for some samples at a time: by dense products
first, then by compiled code. Only `kernels` imports this module.

With G the Hessian of the smooth part, b = D^T x and eta the step, the layer ``z' = S(y + eta (b - G
y))`` depends on the dictionary D through eta G and eta b alone. Their derivatives are summed over
layers and samples, and turned into one in D at the end, or at once where samples are few. Codes are
dense in the first layers only; there a product with all of G is faster than one with some of its
rows.
"""

import threading
from collections.abc import Collection, Sequence
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..problems import SparseCoding
from ..problems.l1 import gram as symmetric
from ..problems.l1 import product
from ..threads import blocks_of, run_blocks, single_thread
from . import unrolling
from .algorithm import Algorithm, State
from .ista import Fista, next_momentum
from .thresholding import Hard

#: Number of samples that are treated together, and memory that they may take if all layers are
#: dense. Sums over samples are in the order of these chunks.
CHUNK, CHUNK_BYTES = 250, 1 << 27
#: Share of non-zero code entries above which a chunk's layer is a dense product.
DENSE = 0.38
#: Share of an atom's products with all others that a layer takes, as a rule.
SHARE_OF_ATOMS = 0.1
#: Number of a gradient's layers, over all samples, per atom, up to which no matrix for pairs of
#: atoms is made.
COLUMNWISE = 5
#: Number of layers through which rounding in single precision may add up in directions that no
#: layer changes, those of codes with more entries than features.
SAFE_DEPTH = 200


def is_dense(problem: SparseCoding, point: Tensor, from_zero: bool) -> bool:
    """Tell whether the layer after a point is a dense product: by the share of entries that are not
    zero, and for a point of zeros by `from_zero`.
    """
    features, atoms = problem.dictionary.shape
    active = int(np.count_nonzero(point.detach().numpy() != 0))
    # The first layer leads from all-zero codes to dense ones.
    return active >= DENSE * len(point) * min(atoms, 2 * features) or (from_zero and not active)


def norms(matrices: Tensor) -> Tensor:
    """Return the Frobenius norms of matrices, shape (k, m, p), in double precision: in single
    precision squares may underflow.
    """
    frobenius_norms: Tensor = torch.linalg.norm(matrices, dim=(1, 2), dtype=torch.float64)
    return frobenius_norms


#: Codes and point of some samples.
Pair = tuple[Tensor, Tensor]


class Sums(NamedTuple):
    """The derivatives that some samples add up to, for each depth."""

    #: Those in eta G, shape (depths, p, p), from compiled code and from dense products; they may be
    #: one matrix.
    gram_bar: Tensor
    dense_bar: Tensor
    #: Those in D through ``D (G_bar + G_bar^T)``, shape (depths, p, m).
    columns_bar: Tensor
    #: Those in D through b, shape (depths, m, p).
    theta_bar: Tensor

    def add(self, sums: "Sums") -> None:
        """Add the sums over other samples to these, in place."""
        self.gram_bar.add_(sums.gram_bar)
        if self.dense_bar is not self.gram_bar:
            self.dense_bar.add_(sums.dense_bar)
        self.columns_bar.add_(sums.columns_bar)
        self.theta_bar.add_(sums.theta_bar)


class Chunk(NamedTuple):
    """Samples that are treated together."""

    rows: slice
    problem: SparseCoding
    sums: Sums
    #: eta b, and the derivatives of the loss in it for each depth.
    products: Tensor
    products_bar: Tensor
    #: Adjoints of codes and point for each depth, at the layer that has been reached.
    carried: Tensor


class PassResult(NamedTuple):
    """States and derivatives that a pass through layers and back computes."""

    #: The states that were kept, none if rounding has grown from layer to layer.
    states: dict[int, State]
    #: Derivatives in D through the layers up to each depth, shape (depths, m, p).
    gradients: Tensor
    #: Sums of the norms of the two terms that each of them is made of.
    magnitudes: list[float]
    #: Adjoints of codes and point at the first state, shape (1, 2, n, p); empty unless they were
    #: given for the last.
    adjoints: Tensor


class Pass:
    """A pass through the layers after a state, and back to it from the depths `tops`, which ascend;
    the states after the layers in `keep` are kept, and the last.

    `adjoints`, shape (1, 2, n, p), takes the place of the loss's derivatives in the codes, and in
    the point, at the last layer, the only one of `tops` then. Shapes have n samples, m features and
    p atoms.
    """

    def __init__(
        self,
        problem: SparseCoding,
        algorithm: Algorithm,
        state: State,
        depth: int,
        keep: Collection[int],
        tops: Sequence[int] = (),
        adjoints: Tensor | None = None,
    ) -> None:
        self.step, self.rule = algorithm.step_size(problem), algorithm.thresholding
        self.problem = problem = problem.with_theta(problem.theta.detach().contiguous())
        self.state, self.depth, self.tops = state, depth, tops
        self.adjoints_given = adjoints is not None
        self.threshold = self.step * float(problem.penalty)
        self.accelerated = isinstance(algorithm, Fista)
        #: The momenta a_t of all layers, and the factors c_t = (a_{t-1} - 1) / a_t by which layer t
        #: extrapolates: y_t = z_t + c_t (z_t - z_{t-1}); c_0 is zero, as before any layer.
        self.momenta = [float(state.momentum)]
        for _ in range(depth):
            last_momentum = self.momenta[-1]
            self.momenta.append(next_momentum(last_momentum) if self.accelerated else last_momentum)
        self.pulls = [0.0, *((before - 1) / after for before, after in pairwise(self.momenta))]
        new, (m, p), n_depths = problem.theta, problem.theta.shape, len(tops)
        n, _ = problem.code_shape
        #: The layers whose states are kept, and their codes and points but for those of layer 0,
        #: which is the state itself; shape (layers, n, p).
        self.layers_kept = {*keep, depth}
        self.layers_stored = sorted(self.layers_kept - {0})
        self.codes = new.new_empty(len(self.layers_stored), n, p)
        self.points = torch.empty_like(self.codes) if self.accelerated else self.codes
        #: The adjoints at the last layer, shape (1, 2, n, p), which blocks replace by those at the
        #: first; empty where none were given.
        self.first_adjoints = new.new_empty(0) if adjoints is None else adjoints.detach().clone()
        #: Whether G y is computed as D^T (D y): these two products are cheaper than one with G
        #: where atoms are many, and keep their rounding in D's row space. On the complement, no
        #: layer pulls rounding back, so that it adds up over many layers in single precision.
        self.is_wide = p > 2 * m
        self.accumulates_rounding = new.dtype == torch.float32 and m < p and depth > SAFE_DEPTH
        #: Whether no matrix for pairs of atoms is made, because codes of few samples concern few
        #: pairs; and whether, for this or for the many atoms, derivatives in eta G become ones in
        #: the dictionary layer by layer.
        self.columnwise = n_depths == 1 and n * depth < COLUMNWISE * p
        self.by_columns = self.is_wide or self.columnwise
        #: The atoms as rows, shape (p, m).
        self.columns = problem.dictionary.T.contiguous()
        #: Sums over the samples, and whether rounding has grown from layer to layer in any block.
        self.sums: Sums | None = None
        self.drifted = False
        self.lock = threading.Lock()

    @property
    def gram(self) -> Tensor:
        """The product eta G, which the first block that needs it makes for all."""
        with self.lock:
            return self._gram

    @cached_property
    def _gram(self) -> Tensor:
        """The product eta G, made anew; `gram` guards it."""
        gram = symmetric(self.problem.dictionary).mul_(self.step)
        gram.diagonal().add_(self.step * self.problem.l2_penalty)
        return gram

    def _zeros(self) -> Sums:
        """Return sums over no samples, of the shapes that this pass needs: arrays that are not
        summed are empty.
        """
        new, (m, p), n_depths = self.problem.theta, self.problem.theta.shape, len(self.tops)
        n_paired = 0 if self.columnwise else p
        # Depths are the last axis in memory for compiled code, the first for dense products; of a
        # single depth both have one matrix.
        gram_bar = dense_bar = new.new_zeros(n_paired, n_paired, n_depths).movedim(2, 0)
        if n_depths != 1 and not self.by_columns:
            dense_bar = new.new_zeros(n_depths, p, p)
        columns_bar = new.new_zeros(n_depths if self.by_columns else 0, p, m)
        return Sums(gram_bar, dense_bar, columns_bar, new.new_zeros(n_depths, m, p))

    @torch.no_grad()
    @single_thread()
    def run(self) -> PassResult:
        """Run all samples through the layers and back, block by block in threads; a pass is run
        once.

        The problem is held constant, and no gradient is recorded. `states` is empty if rounding has
        grown.
        """
        n, p = self.problem.code_shape
        layer_bytes = max(self.depth, 1) * p * self.codes.itemsize * (1 + self.accelerated)
        size = max(min(CHUNK, CHUNK_BYTES // layer_bytes), 1) if self.tops else CHUNK
        if not self.is_wide:
            self.gram  # noqa: B018  all blocks need it: a large one is shared among the threads
        work = self.depth * n * SHARE_OF_ATOMS * p * p * (3 if self.tops else 1)
        run_blocks(self._run_block, blocks_of(n, size), work, self._add_block)
        assert self.sums is not None  # there is one block at least
        through_gram, through_products = self._through_gram(), self.sums.theta_bar.mul_(self.step)
        magnitudes = (norms(through_gram) + norms(through_products)).tolist()
        gradients = through_gram.add_(through_products)
        states = {} if self.drifted else self._states()
        return PassResult(states, gradients, magnitudes, self.first_adjoints)

    def _run_block(self, rows: slice) -> tuple[Sums, bool]:
        """Run some samples through the layers and back; return what they add to the derivatives,
        and whether rounding has grown from layer to layer.

        Their states, and adjoints at the first, are written to this pass.
        """
        chunk, drifted = self._chunk(rows), False
        states = self._run_dense(chunk)
        if len(states) <= self.depth:
            self._run_sparse(chunk, len(states) - 1, *states[-1])
            drifted = self.accumulates_rounding and self._overfull(self.codes[-1, rows])
        # One depth after another, so that its adjoints stay in the cache.
        for k in range(len(self.tops)):
            self._pull_dense(chunk, k, states)
        chunk.sums.theta_bar.add_(chunk.problem.observations.T @ chunk.products_bar)
        if self.adjoints_given:
            self.first_adjoints[:, :, rows] = chunk.carried
        return chunk.sums, drifted

    def _add_block(self, block: tuple[Sums, bool]) -> None:
        """Add what a block returned to the sums, which are the first block's own, in place."""
        sums, drifted = block
        self.drifted |= drifted
        if self.sums is None:
            self.sums = sums
        else:
            self.sums.add(sums)

    def _overfull(self, codes: Tensor) -> bool:
        """Tell whether codes have more entries than there are features."""
        return bool(((codes != 0).sum(1) > len(self.problem.dictionary)).any())

    def _chunk(self, rows: slice) -> Chunk:
        """Return some samples as a chunk: their problem, eta b, sums of zero, and the adjoints that
        were given for them, else zeros.
        """
        observations = self.problem.observations[rows].detach().contiguous()
        part = self.problem.with_samples(observations=observations)
        products = part.adjoint(observations).mul_(self.step)
        carried = products.new_zeros(len(self.tops), 2, *products.shape)
        if self.adjoints_given:
            carried.copy_(self.first_adjoints[:, :, rows])
        products_bar = products.new_zeros(len(self.tops), *products.shape)
        return Chunk(rows, part, self._zeros(), products, products_bar, carried)

    def _run_dense(self, chunk: Chunk) -> list[Pair]:
        """Return codes and points up to the first layer at which they are sparse, or the last; of
        those that nothing needs an empty pair.

        Layers to keep are written to `codes` and `points` of this pass.
        """
        problem, iteration = chunk.problem, self.state.iteration
        codes, point = (
            tensor[chunk.rows].detach().contiguous()
            for tensor in (self.state.codes, self.state.point)
        )
        states = [(codes, point)]
        for layer in range(self.depth + 1):
            if layer in self.layers_stored:
                place = self.layers_stored.index(layer)
                self.codes[place, chunk.rows], self.points[place, chunk.rows] = codes, point
            # Counting takes a tenth of a layer's time.
            counted = layer < 16 or layer % 8 == 0
            from_zero = layer == 0
            if layer == self.depth or (counted and not is_dense(problem, point, from_zero)):
                break
            if not self.tops:
                states[-1] = codes.new_empty(0), codes.new_empty(0)
            # The slope eta (G y - b), times the step already.
            slope = (
                problem.smooth_gradient(point).mul_(self.step)
                if self.is_wide or self.accumulates_rounding
                else torch.addmm(chunk.products, point, self.gram, beta=-1)
            )
            # Only this layer needs the slope: its memory takes the values, then the next point.
            values = torch.sub(point, slope, out=slope)
            codes_after = self.rule(values, self.threshold, iteration + layer, problem.nonnegative)
            if self.accelerated:
                point = torch.sub(codes_after, codes, out=values)
                torch.add(codes_after, point, alpha=self.pulls[layer + 1], out=point)
            else:
                point = codes_after
            codes = codes_after
            states.append((codes, point))
        return states

    def _run_sparse(self, chunk: Chunk, n_run: int, codes: Tensor, point: Tensor) -> None:
        """Run the layers after the `n_run` that were run, and pull back through them, by compiled
        code.

        Writes states to this pass, and adds derivatives, and adjoints at the first of these layers,
        to the chunk.
        """
        from . import compiled  # numba is slow to import

        problem, first = self.problem, self.state.iteration
        number, lasso = self.gram.numpy().dtype.type, problem.loss == "lasso"
        cutoffs = [self.rule.cutoff(self.threshold, first + layer) for layer in range(self.depth)]
        nothing = problem.theta.new_empty(0, 0)
        program = compiled.Program(
            offset=n_run,
            gram=self.gram.numpy(),
            products=chunk.products.numpy(),
            thresholds=np.array(cutoffs, number),
            pulls=np.array(self.pulls, number),
            step=number(self.step),
            samples=number(len(problem.observations)),
            l1_weight=number(problem.penalty if lasso else 0),
            l2_weight=number(0 if lasso else -problem.l2_penalty),
            hard=isinstance(self.rule, Hard),
            nonnegative=problem.nonnegative,
            accelerated=self.accelerated,
            keep=np.array(self.layers_stored, np.int64),
            codes=self.codes.numpy(),
            points=self.points.numpy(),
            first=chunk.rows.start,
            tops=np.array(self.tops, np.int64),
            adjoints_given=self.adjoints_given,
            adjoints=chunk.carried.numpy(),
            gram_bar=chunk.sums.gram_bar.movedim(0, 2).numpy(),
            products_bar=chunk.products_bar.numpy(),
            columns=(self.columns if self.columnwise else nothing).numpy(),
            columns_bar=(chunk.sums.columns_bar[0] if self.columnwise else nothing).numpy(),
        )
        compiled.run_layers(program, codes.contiguous().numpy(), point.contiguous().numpy())

    def _pull_dense(self, chunk: Chunk, k: int, states: Sequence[Pair]) -> None:
        """Pull back from the k-th depth through the dense layers; adds to the chunk's sums and,
        where adjoints were given, sets its `carried`.

        Layer t leads from the point ``y_t = z_t + c_t (z_t - z_{t-1})`` to the codes z_{t+1}. With
        w-bar for the derivative of the loss in w,

            u = z-bar_{t+1} where z_{t+1} is not zero, zero elsewhere,
            y-bar_t = u - eta G u,
            z-bar_t = (1 + c_t) y-bar_t - c_{t+1} y-bar_{t+1},

        u is added to the derivative in eta b, and ``-y_t u^T`` to that in eta G.
        """
        from . import compiled  # as above

        top, pulls, products_bar = self.tops[k], self.pulls, chunk.products_bar[k].numpy()
        codes_bar, point_bar = chunk.carried[k].unbind()
        if not self.adjoints_given and top < len(states):
            # The mean over this part of the samples, as a part of that over all.
            share = len(codes_bar) / len(self.problem.observations)
            codes_bar = unrolling.direct_gradients(chunk.problem, states[top][0])[1] * share
        last = min(top, len(states) - 1)
        # The part of z-bar_{t-1} that comes through y_t waits for its layer.
        codes_bar, earlier_bar = codes_bar + (1 + pulls[last]) * point_bar, -pulls[last] * point_bar
        # From zero codes the derivative in G through the first layer is zero.
        starts_warm = bool(states[0][1].any())
        for t in range(last - 1, -1, -1):
            compiled.restrict(codes_bar.numpy(), states[t + 1][0].numpy(), products_bar)
            images = codes_bar @ self.columns if self.by_columns else codes_bar
            if t or starts_warm:
                self._add(chunk.sums, k, states[t][1], codes_bar, images)
            if t == 0 and not self.adjoints_given:
                break
            if self.is_wide:
                shrinkage = 1 - self.step * self.problem.l2_penalty
                point_bar = torch.addmm(
                    codes_bar, images, self.columns.T, beta=shrinkage, alpha=-self.step
                )
            else:
                point_bar = torch.addmm(codes_bar, codes_bar, self.gram, alpha=-1)
            if t == 0:
                # Before the first layer, those of codes and point are left apart.
                chunk.carried[k, 0], chunk.carried[k, 1] = earlier_bar, point_bar
            elif self.accelerated:
                codes_bar = earlier_bar + (1 + pulls[t]) * point_bar
                earlier_bar = -pulls[t] * point_bar
            else:
                codes_bar = point_bar

    def _add(self, sums: Sums, k: int, point: Tensor, adjoint: Tensor, images: Tensor) -> None:
        """Subtract ``y u^T`` from the derivative in eta G for the k-th depth, in place, for points
        y and adjoints u as rows; `images` holds D u where columns are summed, else u.
        """
        if self.by_columns:
            sums.columns_bar[k].addmm_(adjoint.T, point @ self.columns, alpha=-1)
            sums.columns_bar[k].addmm_(point.T, images, alpha=-1)
        else:
            sums.dense_bar[k].addmm_(point.T, images, alpha=-1)

    def _through_gram(self) -> Tensor:
        """Return the derivatives in D through eta G, shape (depths, m, p): ``eta D (G_bar +
        G_bar^T)`` with G_bar the derivative in eta G, because ``G = D^T D`` depends on D through
        both factors. The sums are overwritten.
        """
        assert self.sums is not None  # as `run` sees to
        gram_bar, dense_bar, columns_bar, _ = self.sums
        if dense_bar is not gram_bar:
            gram_bar = dense_bar.add_(gram_bar)
        through_gram = columns_bar.mT
        # Where no block has made G, all layers were dense ones of a wide dictionary.
        if not self.columnwise and "_gram" in vars(self):
            symmetric_bar = (gram_bar + gram_bar.mT).numpy()
            of_pairs = torch.from_numpy(product(self.problem.dictionary.numpy(), symmetric_bar))
            through_gram = through_gram + of_pairs if self.is_wide else of_pairs
        return through_gram.mul_(self.step)

    def _states(self) -> dict[int, State]:
        """Return the states of the layers to keep, the first one included if it is among them."""
        states = {0: self.state} if 0 in self.layers_kept else {}
        for layer, z, y in zip(
            self.layers_stored, self.codes.unbind(), self.points.unbind(), strict=True
        ):
            states[layer] = State(z, y, self.momenta[layer], self.state.iteration + layer)
        return states
