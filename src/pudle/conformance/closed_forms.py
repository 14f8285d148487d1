"""Problems and layers in numpy, and their derivatives, to check estimators against.

Nothing here uses an estimator, automatic differentiation or a kernel. Functions of the parameter
continue analytically off the real axis, because every decision looks only at real parts. So a step
into the complex plane differentiates them without cancellation.
"""

from collections import ChainMap
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache, cached_property, lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from .. import problems
from ..algorithms import Algorithm, Fista, Ista, State
from ..algorithms.thresholding import Hard, Soft
from .explanations import Array

#: The matrix A (m, p), the penalty (a number, or one per entry of a code) and the l2_penalty.
Parts = tuple[Array, Any, Any]
#: Step into the complex plane.
TINY = 1e-30
#: Condition number up to which an implicit system is solved to the tolerance of its check.
REGULAR = 1e3


@dataclass(frozen=True)
class Squeeze(Soft):
    """A rule as users write it: the soft one, and less by a share that falls with the layers."""

    name = "squeeze"
    proximal = False

    def __call__(self, *given: Any) -> torch.Tensor:
        return (1 - 0.1 / (given[2] + 1)) * super().__call__(*given)


@cache
def derived(kind: Any, apart: bool) -> Any:
    """Return a class of problems as users write it, derived from one with a penalty or `apart` from
    all: three times the loss, and bounded codes.
    """

    def bound(self: Any) -> torch.Tensor:
        # It depends on neither theta nor L.
        return 0.3 * self.observations.abs().amax((*range(1, self.observations.ndim),), True)

    base = problems.Problem if apart else kind
    parts: Any = dict(ChainMap(*[vars(each) for each in kind.__mro__ if each not in base.__mro__]))
    parts |= {
        "kind": kind,
        "scale": 3,
        "outer_loss": lambda self, codes: 3 * kind.outer_loss(self, codes),
        "bound": property(bound),
        "prox": lambda self, *given: kind.prox(self, *given).clamp(-self.bound, self.bound),
        "active": lambda self, codes: (
            kind.active(self, codes) & (codes.abs() < (1 - 1e-9) * self.bound)
        ),
    }
    return type("Derived", (base,), parts)


def soft(values: Array, threshold: Any, nonnegative: bool = False) -> Array:
    """Apply the two-sided soft threshold, or the one-sided one; a complex step passes through."""
    signs = np.ones_like(values.real) if nonnegative else np.sign(values.real)
    return np.where(signs * values.real > np.real(threshold), values - threshold * signs, 0)


def array(tensor: torch.Tensor) -> Array:
    """Return a tensor as an array that shares its memory."""
    return tensor.detach().numpy()


def flat(tensor: torch.Tensor) -> Array:
    """Return a tensor as an array with one row per sample."""
    return array(tensor.flatten(1))


def complex_step(function: Callable[[Array], Any], at: Array, direction: Array) -> float:
    """Return a directional derivative, exact to rounding, of a function that continues analytically
    off the real axis.
    """
    return complex(function(at + 1j * TINY * direction)).imag / TINY


def derivative(
    function: Callable[[Array], Any], at: Array, directions: Array | None = None
) -> Array:
    """Return the derivative along each direction, or all partial derivatives in the shape of `at`;
    exact to rounding.
    """
    if directions is None:
        axes = np.eye(at.size).reshape(-1, *at.shape)
        return derivative(function, at, axes).reshape(at.shape)
    return np.array([complex_step(function, at, each) for each in directions])


@dataclass(frozen=True, eq=False)
class ClosedForm:
    """The layers of an algorithm on ``min_z 1/2 |x - A z|^2 + l2_penalty/2 |z|^2 + penalty |z|_1``,
    the outer loss, and their derivatives in theta, which gives A and the penalties.

    Codes are flat: one row per sample, whatever axes the problem has. With `directions`, shape
    (k, *theta.shape), a gradient is only its products with these.
    """

    problem: Any
    algorithm: Algorithm
    directions: Array | None = None

    @property
    def functions(self) -> Any:
        """What `FORMS` has for the kind of problem."""
        return FORMS[getattr(self.problem, "kind", type(self.problem))]

    @cached_property
    def bound(self) -> Any:
        """The largest magnitude of a code entry, for each sample."""
        return flat(self.problem.bound) if hasattr(self.problem, "bound") else np.inf

    @cached_property
    def theta(self) -> Array:
        """The value of the outer parameter."""
        return array(self.problem.theta)

    @cached_property
    def observations(self) -> Array:
        """The observations, shape (n, m)."""
        return flat(self.problem.observations)

    @cached_property
    def eigenvalues(self) -> Array:
        """Eigenvalues of the Hessian of the smooth part, in ascending order."""
        matrix, _, l2_penalty = self.parts(self.theta)
        return np.linalg.eigvalsh(matrix.T @ matrix) + l2_penalty

    @property
    def work(self) -> int:
        """Multiplications of a layer."""
        return self.observations.size * len(self.eigenvalues)

    @property
    def lipschitz_constant(self) -> float:
        """Lipschitz constant L of the gradient of the smooth part."""
        return self.eigenvalues[-1]

    @property
    def regular(self) -> bool:
        """Tell whether the Hessian is as well conditioned as accurate solves need."""
        return self.eigenvalues[0] * REGULAR > self.lipschitz_constant

    @cache  # noqa: B019  # specimens are few, and live as long as the process
    def condition(self, depth: int) -> float:
        """Return the largest condition number of the systems on the active sets of a depth and of
        the plain layer ahead.
        """
        if self.regular:
            return 1.0
        matrix, _, l2_penalty = self.parts(self.theta)
        hessian = matrix.T @ matrix + l2_penalty * np.eye(matrix.shape[1])
        signs = [self.signs(depth, ahead=ahead) != 0 for ahead in (False, True)]
        systems = [hessian[np.ix_(row, row)] for row in np.unique(np.vstack(signs), axis=0)]
        return max((np.linalg.cond(each) for each in systems if each.size), default=1.0)

    def parts(self, theta: Array) -> Parts:
        """Return what theta makes of the problem."""
        return self.functions[0](self.problem, theta)

    def losses(self, codes: Array, theta: Array) -> Array:
        """Return the loss of each sample, analytic where no code entry changes sign."""
        return getattr(self.problem, "scale", 1) * self.functions[1](self, codes, theta)

    def loss(self, codes: Array, theta: Array) -> Any:
        """Return the mean loss over the samples."""
        return self.losses(codes, theta).mean()

    def prox(self, values: Array, threshold: Any, rule: Any, iteration: int) -> Array:
        """Apply a thresholding rule: ``soft``, ``decaying``, ``hard`` or `Squeeze`."""
        nonnegative = getattr(self.problem, "nonnegative", False)
        if isinstance(rule, Hard):
            codes = np.where(soft(values, rule.threshold or threshold, nonnegative), values, 0)
        else:
            scale, decay = 0.1 * isinstance(rule, Squeeze), getattr(rule, "decay", 1.0)
            codes = (1 - scale / (iteration + 1)) * soft(
                values, threshold * decay**iteration, nonnegative
            )
        inside = np.abs(codes.real) <= self.bound
        return codes if inside.all() else np.where(inside, codes, np.sign(codes.real) * self.bound)

    def smooth_gradient(self, codes: Array, parts: Parts) -> Array:
        """Return the gradient of ``1/2 |x - A z|^2 + l2_penalty/2 |z|^2`` at each row of codes."""
        matrix, _, l2_penalty = parts
        return (codes @ matrix.T - self.observations) @ matrix + l2_penalty * codes

    def layer(self, point: Array, parts: Parts, iteration: int) -> Array:
        """Return the codes after a plain layer."""
        step = self.algorithm.step_size(self.problem)
        values = point - step * self.smooth_gradient(point, parts)
        return self.prox(values, step * parts[1], self.algorithm.thresholding, iteration)

    def run(self, theta: Array, iterations: Iterable[int], state: Any = None) -> Any:
        """Run layers from a state, by default from the start, and return the state after them.

        With `restart` each sample drops its momentum where it points uphill by more than rounding.
        """
        algorithm, parts = self.algorithm, self.parts(theta)
        if type(algorithm) not in (Ista, Fista):

            def slope(codes: torch.Tensor) -> torch.Tensor:
                return torch.from_numpy(self.smooth_gradient(codes.numpy(), parts))

            def prox(values: torch.Tensor, step: float, *rule: Any) -> torch.Tensor:
                return torch.from_numpy(self.prox(values.numpy(), step * parts[1], *rule))

            # Any other algorithm runs its own layers, on arrays and at a complex theta; one that is
            # not differentiated runs them on the problem.
            live: Any = SimpleNamespace(smooth_gradient=slope, prox=prox)
            live = live if algorithm.differentiable else self.problem
            if state is None:
                state = algorithm.start(self.problem)
                images = {name: each for name, each in vars(state).items() if np.ndim(each) > 2}
                state = replace(state, **{name: each.flatten(1) for name, each in images.items()})
            step = algorithm.step_size(self.problem)
            for _ in iterations:
                state = algorithm.advance(live, state, step)
            return state
        if state is None:
            shape = len(self.observations), parts[0].shape[1]
            start: Any = np.zeros(shape) if algorithm.initial is None else flat(algorithm.initial)
            state = State(start, start)
        codes, point, momentum = state.codes, state.point, state.momentum
        for iteration in iterations:
            after = self.layer(point, parts, iteration)
            following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
            pull = isinstance(algorithm, Fista) * (momentum - 1) / following
            if getattr(algorithm, "restart", False):
                back, moved, size = (point - after).real, (after - codes).real, np.abs(after.real)
                noise = (size * (np.abs(back) + np.abs(moved))).sum(1, keepdims=True)
                uphill = (back * moved).sum(1, keepdims=True) > 1e-12 * noise
                pull, following = np.where(uphill, 0.0, pull), np.where(uphill, 1.0, following)
            codes, point, momentum = after, after + pull * (after - codes), following
        return State(codes, point, momentum)

    @lru_cache(maxsize=64)  # noqa: B019  # states of large problems must not add up
    def state(self, depth: int) -> Any:
        """Return the state after `depth` layers at the problem's own theta."""
        return self.run(self.theta, range(depth))

    def codes(self, depth: int) -> Array:
        """Return the codes after `depth` layers at the problem's own theta."""
        return np.asarray(self.state(depth).codes).real

    def along(self, gradient: Array) -> Array:
        """Return a gradient's products with the directions, or itself where there are none."""
        if self.directions is None or gradient.shape != self.theta.shape:
            return gradient
        return np.tensordot(self.directions, gradient, gradient.ndim)

    @cache  # noqa: B019  # specimens are few, and live as long as the process
    def unrolled(self, depth: int, window: int | None = None) -> Array:
        """Return the gradient through the last `window` layers, or all; a window of 0 leaves the
        direct part.
        """
        first = 0 if window is None else max(depth - window, 0)

        def loss(theta: Array) -> Any:
            state = self.run(theta, range(first, depth), self.state(first))
            return self.loss(np.asarray(state.codes), theta)

        return derivative(loss, self.theta, self.directions)

    def signs(self, depth: int, *, ahead: bool) -> Array:
        """Return the signs of the codes of a depth, or of the plain layer `ahead` of them."""
        codes, parts = self.codes(depth), self.parts(self.theta)
        if ahead:
            codes = self.layer(codes, parts, depth)
        # Without a penalty nothing sets entries to zero, and all of them are active.
        inside = np.abs(codes) < (1 - 1e-9) * self.bound
        return np.sign(codes) * inside if np.any(parts[1]) else np.ones_like(codes)

    def stationarity(self, codes: Array, theta: Array, signs: Array) -> Array:
        """Return what is zero on the active entries of a minimizer with these signs."""
        parts = self.parts(theta)
        return self.smooth_gradient(codes, parts) + parts[1] * signs

    @cache  # noqa: B019
    def implicit(self, depth: int, *, ahead: bool = False) -> Array:
        """Return the gradient of the implicit function theorem at the codes of a depth, from
        minimum-norm solves on their active sets, or on those of the plain layer `ahead` of them.
        """
        signs, theta = self.signs(depth, ahead=ahead), self.theta
        codes = self.codes(depth).reshape(signs.shape)
        # A row's loss and slope depend on no other row: a step in one column differentiates all
        # rows at once.
        columns = 1j * TINY * np.eye(codes.shape[1])
        losses = [self.losses(codes + column, theta).imag for column in columns]
        slopes = [self.stationarity(codes + column, theta, signs).imag for column in columns]
        rights, systems = np.stack(losses, 1) / len(codes), np.stack(slopes, 1)
        solution = np.zeros_like(codes)
        for row, active, system, right in zip(solution, signs != 0, systems, rights, strict=True):
            system = system[np.ix_(active, active)]
            row[active] = np.linalg.lstsq(system / TINY, right[active] / TINY, rcond=1e-12)[0]

        def remaining(theta: Array) -> Any:
            slope = self.stationarity(codes, theta, signs)
            return self.loss(codes, theta) - (slope * solution).sum()

        return derivative(remaining, theta, self.directions)


class Steps(ClosedForm):
    """Steps of a fixed point, which take complex numbers."""

    eigenvalues = np.ones(1)
    #: About what takes as long as the calls.
    work = 10_000

    def _called(self, name: str, codes: Any, theta: Any) -> Array:
        """Return what a function of the problem makes of complex numbers in the form of its state,
        as one vector.
        """
        codes, theta = (torch.as_tensor(each, dtype=torch.complex128) for each in (codes, theta))
        state = self.problem.unpack(codes.reshape(self.problem.code_shape))
        made = getattr(self.problem, name)(state, theta)
        return np.concatenate([*made.values()] if isinstance(made, dict) else [made], axis=None)

    def step(self, codes: Any, theta: Any) -> Array:
        """Return the codes after one step."""
        return self._called("step", codes, theta).reshape(codes.shape)

    def losses(self, codes: Array, theta: Array) -> Array:
        return getattr(self.problem, "scale", 1) * self._called("loss", codes, theta)

    def signs(self, depth: int, *, ahead: bool) -> Array:
        """Return ones for the whole state, which is one system."""
        return np.ones((1, self.codes(depth).size))

    def stationarity(self, codes: Array, theta: Array, signs: Array) -> Array:
        return codes - self.step(codes, theta)

    def run(self, theta: Array, iterations: Iterable[int], state: Any = None) -> Any:
        start = self.algorithm.initial
        start = self.problem.initial_codes() if start is None else start
        codes = flat(start) if state is None else state.codes
        for _ in iterations:
            codes = self.step(codes, theta)
        return SimpleNamespace(codes=codes)


def half_squares(residual: Array) -> Array:
    """Return half the squared norm of each row, analytically."""
    return (residual * residual).sum(1) / 2


def own_losses(codes: Any, theta: Any) -> Any:
    """Return a loss for each sample, of arrays or tensors, as users may write it: squares of
    weighted sums of the codes, and of some entries of theta, which count where no code does.
    """
    sums, own = codes.reshape(len(codes), -1).cumsum(1).sum(1), (theta[..., 0] ** 2).mean()
    return sums**2 * (1 + own) / 2 + own


def dictionary_losses(form: ClosedForm, codes: Array, theta: Array) -> Array:
    """Return the losses of sparse coding."""
    if callable(form.problem.loss):
        return own_losses(codes, theta)
    (matrix, penalty, l2_penalty), targets = form.parts(theta), form.problem.targets
    targets = form.observations if targets is None else flat(targets)
    losses = half_squares(targets - codes @ matrix.T)
    if form.problem.loss == "reconstruction":
        return losses
    penalties = penalty * codes * np.sign(codes.real) + l2_penalty * codes * codes / 2
    return losses + penalties.sum(1)


def shifted(problem: Any, filters: Array) -> Array:
    """Return all shifted copies of the filters as columns, filter by filter."""
    axes, stride = [], problem.stride
    for axis in (2, 3):
        length, side = problem.observations.shape[axis], filters.shape[axis]
        positions = -(-(length - side) // stride) + 1
        cropped = -(-((positions - 1) * stride + side - length) // 2)
        # Whether pixel y lies under filter entry i at code position a, for all y, a and i.
        entries = np.arange(length)[:, None] + cropped - stride * np.arange(positions)
        axes.append((entries[..., None] == np.arange(side)).astype(float))
    copies = np.einsum("yai,xbj,fcij->fabcyx", *axes, filters, optimize=True)
    return copies.reshape(-1, copies[0, 0, 0].size).T


def learned_parts(problem: Any, theta: Array) -> Parts:
    """Return the parts of a problem whose theta ends with the logarithms of the penalties."""
    matrix = shifted(problem, theta[:, :-1].reshape(problem.dictionary.shape))
    penalty = np.repeat(np.exp(theta[:, -1]), matrix.shape[1] // len(theta))
    return matrix, penalty, problem.l2_penalty


#: For each class of problems what `ClosedForm.parts` and `ClosedForm.losses` return, of the problem
#: or its closed form: a new class needs a row.
FORMS: dict[type[problems.Problem], tuple[Callable[..., Any], Callable[..., Any]]] = {
    problems.SparseCoding: (
        lambda problem, theta: (theta, np.asarray(problem.penalty), problem.l2_penalty),
        dictionary_losses,
    ),
    problems.ConvolutionalSparseCoding: (
        lambda problem, theta: (shifted(problem, theta), problem.penalty, problem.l2_penalty),
        dictionary_losses,
    ),
    problems.ThresholdedConvolutionalSparseCoding: (learned_parts, dictionary_losses),
    problems.PenaltySelection: (
        lambda problem, theta: (array(problem.design), np.exp(theta), 0.0),
        lambda form, codes, theta: half_squares(
            codes @ array(form.problem.held_out_design).T
            - array(form.problem.held_out_observations)
        ),
    ),
    problems.Ridge: (
        lambda problem, theta: (array(problem.dictionary), 0.0, problem.strength + theta),
        lambda form, codes, theta: codes @ array(form.problem.weights),
    ),
}
