"""The library anew in numpy, to test against: layers with their derivatives, and exact minimizers.

Nothing here uses an estimator, automatic differentiation or a kernel. Functions of the parameter
continue analytically off the real axis, because every decision looks only at real parts. So a step
into the complex plane differentiates them without cancellation.
"""

from dataclasses import dataclass, replace
from functools import cache, cached_property
from types import SimpleNamespace

import numpy as np
import torch
from support.problems.convolutions import dense, entries_of

import pudle
from pudle import problems
from pudle.algorithms import State
from pudle.algorithms.thresholding import Hard
from pudle.conformance.brought import Bounded, Squeeze
from pudle.conformance.truth import array

#: Step into the complex plane.
TINY = 1e-30


def flat(tensor):
    """Return a tensor as an array with one row per sample."""
    return array(tensor.flatten(1))


def soft(values, threshold, nonnegative=False):
    """Apply the two-sided soft threshold, or the one-sided one; a complex step passes through."""
    signs = np.ones_like(values.real) if nonnegative else np.sign(values.real)
    return np.where(signs * values.real > np.real(threshold), values - threshold * signs, 0)


def complex_step(function, at, direction):
    """Return a directional derivative, exact to rounding, of a function that continues analytically
    off the real axis.
    """
    return complex(function(at + 1j * TINY * direction)).imag / TINY


def derivative(function, at):
    """Return all partial derivatives in the shape of `at`, exact to rounding."""
    axes = np.eye(at.size).reshape(-1, *at.shape)
    return np.reshape([complex_step(function, at, each) for each in axes], at.shape)


@dataclass(frozen=True, eq=False)
class ClosedForm:
    """The layers of an algorithm on ``min_z 1/2 |x - A z|^2 + l2_penalty/2 |z|^2 + penalty |z|_1``,
    the outer loss, and their derivatives in theta, which gives A and the penalties.

    Codes are flat: one row per sample, whatever axes the problem has.
    """

    problem: pudle.Problem
    algorithm: pudle.algorithms.Algorithm

    @cached_property
    def kind(self):
        """The class of the problem, or the one that it is derived from."""
        return type(self.problem).__bases__[1] if self.derived else type(self.problem)

    @property
    def derived(self):
        """Whether the problem is of a class of the checks, with bounded codes and another loss."""
        return isinstance(self.problem, Bounded)

    @cached_property
    def bound(self):
        """The largest magnitude of a code entry, for each sample."""
        return flat(self.problem.bound) if self.derived else np.inf

    @cached_property
    def theta(self):
        return array(self.problem.theta)

    @cached_property
    def observations(self):
        return flat(self.problem.observations)

    @cached_property
    def lipschitz_constant(self):
        matrix, _, l2_penalty = self.parts(self.theta)
        return np.linalg.eigvalsh(matrix.T @ matrix)[-1] + l2_penalty

    def parts(self, theta):
        """Return the matrix A (m, p), the penalty (a number, or one per entry) and l2_penalty."""
        problem, kind = self.problem, self.kind
        if kind is problems.PenaltySelection:
            return array(problem.design), np.exp(theta), 0.0
        if kind is problems.Ridge:
            return array(problem.dictionary), 0.0, problem.strength + theta
        matrix, penalty = theta, np.asarray(getattr(problem, "penalty", 0.0))
        if kind is problems.ConvolutionalSparseCoding:
            matrix = dense(theta, entries_of(problem))
        if kind is problems.ThresholdedConvolutionalSparseCoding:
            # Theta ends with the logarithms of the penalties.
            matrix = dense(theta[:, :-1], entries_of(problem))
            penalty = np.repeat(np.exp(theta[:, -1]), matrix.shape[1] // len(theta))
        return matrix, penalty, problem.l2_penalty

    def losses(self, codes, theta):
        """Return the loss of each sample, analytic where no code entry changes sign; three times
        that of the class that the problem is derived from.
        """
        return (1 if self.kind is type(self.problem) else 3) * self._losses(codes, theta)

    def _losses(self, codes, theta):
        problem = self.problem
        if self.kind is problems.Ridge:
            return codes @ array(problem.weights)
        if self.kind is problems.PenaltySelection:
            predicted = codes @ array(problem.held_out_design).T
            return half_squares(predicted - array(problem.held_out_observations))
        if callable(problem.loss):
            sums, own = codes.cumsum(1).sum(1), (theta[..., 0] ** 2).mean()
            return sums**2 * (1 + own) / 2 + own
        matrix, penalty, l2_penalty = self.parts(theta)
        targets = self.observations if problem.targets is None else flat(problem.targets)
        losses = half_squares(targets - codes @ matrix.T)
        if problem.loss == "reconstruction":
            return losses
        penalties = penalty * codes * np.sign(codes.real) + l2_penalty * codes * codes / 2
        return losses + penalties.sum(1)

    def loss(self, codes, theta):
        return self.losses(codes, theta).mean()

    def prox(self, values, threshold, rule, iteration):
        """Apply a thresholding rule: ``soft``, ``decaying``, ``hard`` or `Squeeze`."""
        if self.kind is problems.Ridge:
            return values
        nonnegative = self.problem.nonnegative
        if isinstance(rule, Hard):
            codes = np.where(soft(values, rule.threshold or threshold, nonnegative), values, 0)
        else:
            cutoff = threshold * getattr(rule, "decay", 1.0) ** iteration
            share = 1 - 0.1 / (iteration + 1) if isinstance(rule, Squeeze) else 1.0
            codes = share * soft(values, cutoff, nonnegative)
        inside = np.abs(codes.real) <= self.bound
        return codes if inside.all() else np.where(inside, codes, np.sign(codes.real) * self.bound)

    def smooth_gradient(self, codes, parts):
        """Return the gradient of ``1/2 |x - A z|^2 + l2_penalty/2 |z|^2`` at each row of codes."""
        matrix, _, l2_penalty = parts
        return (codes @ matrix.T - self.observations) @ matrix + l2_penalty * codes

    def layer(self, point, parts, iteration):
        """Return the codes after a plain layer."""
        step = self.algorithm.step_size(self.problem)
        values = point - step * self.smooth_gradient(point, parts)
        return self.prox(values, step * parts[1], self.algorithm.thresholding, iteration)

    @cached_property
    def plain(self):
        """Whether the layers are those of ISTA or FISTA."""
        return type(self.algorithm) in (pudle.Ista, pudle.Fista)

    def start(self):
        """Return the state before the first layer, with flat codes."""
        state = self.algorithm.start(self.problem)
        if self.plain:
            return State(flat(state.codes), flat(state.codes))
        images = {name: each for name, each in vars(state).items() if np.ndim(each) > 2}
        return replace(state, **{name: each.flatten(1) for name, each in images.items()})

    def run(self, theta, iterations, state=None):
        """Run layers from a state, by default from the start, and return the state after them."""
        algorithm, parts = self.algorithm, self.parts(theta)
        state = self.start() if state is None else state
        if self.plain:
            for iteration in iterations:
                state = self._advance(state, parts, iteration)
            return state

        def slope(codes):
            return torch.from_numpy(self.smooth_gradient(codes.numpy(), parts))

        def prox(values, step, *rule):
            return torch.from_numpy(self.prox(values.numpy(), step * parts[1], *rule))

        # Any other algorithm runs its own layers, on arrays and at a complex theta; one that is not
        # differentiated runs them on the problem.
        live = SimpleNamespace(smooth_gradient=slope, prox=prox)
        live = live if algorithm.differentiable else self.problem
        for _ in iterations:
            state = algorithm.advance(live, state, algorithm.step_size(self.problem))
        return state

    def _advance(self, state, parts, iteration):
        """Run a layer of ISTA or FISTA; with `restart` each sample drops its momentum where it
        points uphill by more than rounding.
        """
        codes, point, momentum = state.codes, state.point, state.momentum
        after = self.layer(point, parts, iteration)
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        pull = isinstance(self.algorithm, pudle.Fista) * (momentum - 1) / following
        if getattr(self.algorithm, "restart", False):
            back, moved, size = (point - after).real, (after - codes).real, np.abs(after.real)
            noise = (size * (np.abs(back) + np.abs(moved))).sum(1, keepdims=True)
            uphill = (back * moved).sum(1, keepdims=True) > 1e-12 * noise
            pull, following = np.where(uphill, 0.0, pull), np.where(uphill, 1.0, following)
        return State(after, after + pull * (after - codes), following)

    @cache  # noqa: B019  # tests end soon
    def state(self, depth):
        """Return the state after `depth` layers at the problem's own theta."""
        return self.run(self.theta, range(depth))

    def codes(self, depth):
        """Return the codes after `depth` layers at the problem's own theta."""
        return np.asarray(self.state(depth).codes).real

    def loss_through(self, depth, window=None):
        """Return the loss as a function of theta, of which the last `window` layers depend on it,
        or all.
        """
        first = 0 if window is None else max(depth - window, 0)

        def loss(theta):
            state = self.run(theta, range(first, depth), self.state(first))
            return self.loss(np.asarray(state.codes), theta)

        return loss

    @cache  # noqa: B019
    def unrolled(self, depth, window=None):
        """Return the gradient through the last `window` layers, or all; a window of 0 leaves the
        direct part.
        """
        return derivative(self.loss_through(depth, window), self.theta)

    def signs(self, depth, *, ahead):
        """Return the signs of the codes of a depth, or of the plain layer `ahead` of them."""
        codes, parts = self.codes(depth), self.parts(self.theta)
        if ahead:
            codes = self.layer(codes, parts, depth)
        # Without a penalty nothing sets entries to zero, and all of them are active.
        inside = np.abs(codes) < (1 - 1e-9) * self.bound
        return np.sign(codes) * inside if np.any(parts[1]) else np.ones_like(codes)

    def stationarity(self, codes, theta, signs):
        """Return what is zero on the active entries of a minimizer with these signs."""
        parts = self.parts(theta)
        return self.smooth_gradient(codes, parts) + parts[1] * signs

    def remaining(self, depth, *, ahead=False):
        """Return the function of theta whose gradient is that of the implicit function theorem at
        the codes of a depth, from minimum-norm solves on their active sets, or on those of the
        plain layer `ahead` of them.
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

        def function(theta):
            slope = self.stationarity(codes, theta, signs)
            return self.loss(codes, theta) - (slope * solution).sum()

        return function

    @cache  # noqa: B019
    def implicit(self, depth):
        return derivative(self.remaining(depth), self.theta)


class Steps(ClosedForm):
    """Steps of a fixed point, which take complex numbers."""

    def _called(self, name, codes, theta):
        """Return what a function of the problem makes of complex numbers in the form of its state,
        as one vector.
        """
        codes, theta = (torch.as_tensor(each, dtype=torch.complex128) for each in (codes, theta))
        state = self.problem.unpack(codes.reshape(self.problem.code_shape))
        made = getattr(self.problem, name)(state, theta)
        return np.concatenate([*made.values()] if isinstance(made, dict) else [made], axis=None)

    def step(self, codes, theta):
        return self._called("step", codes, theta).reshape(codes.shape)

    def losses(self, codes, theta):
        return self._called("loss", codes, theta)

    def signs(self, depth, *, ahead):
        """Return ones for the whole state, which is one system."""
        return np.ones((1, self.codes(depth).size))

    def stationarity(self, codes, theta, signs):
        return codes - self.step(codes, theta)

    def run(self, theta, iterations, state=None):
        codes = flat(self.algorithm.start(self.problem).codes) if state is None else state.codes
        for _ in iterations:
            codes = self.step(codes, theta)
        return SimpleNamespace(codes=codes)


@cache
def form_of(specimen):
    """Return the problem and the algorithm of a specimen in numpy."""
    kind = Steps if isinstance(specimen.original, pudle.FixedPoint) else ClosedForm
    return kind(specimen.truth.problem, specimen.truth.algorithm)


def half_squares(residual):
    """Return half the squared norm of each row, analytically."""
    return (residual * residual).sum(1) / 2


def burn_in(step, depth):
    """Return the relative error of the derivative through layers of gradient steps along a
    direction of curvature one (Scieur et al. 2022, see MATH in docs); one without any layer.
    """
    return abs(1 - step) ** (depth - 1) * abs(1 + (depth - 1) * step) if depth else 1.0


def outer_loss(observations, dictionary, codes, penalty, loss):
    """Return the mean lasso or reconstruction loss over the samples; analytic in its arguments away
    from zero codes.
    """
    residual = observations - codes @ dictionary.T
    total = 0.5 * (residual * residual).sum()
    if loss == "lasso":
        total = total + (penalty * codes * np.sign(codes.real)).sum()
    return total / len(observations)


def central_difference(function, at, direction, step=1e-5):
    """Return a directional derivative with an error of the order of the squared step."""
    return (function(at + step * direction) - function(at - step * direction)) / (2 * step)


def exact_codes(observations, dictionary, penalty, *, nonnegative=False):
    """Minimize the lasso of every sample in extended precision, by coordinate descent and a refined
    active-set solve.

    Raises
    ------
    AssertionError
        If a code misses the optimality conditions in extended precision.
    """
    gram, correlation = dictionary.T @ dictionary, observations @ dictionary
    codes = np.zeros_like(correlation)
    for _ in range(20_000):
        before = codes.copy()
        for j in range(codes.shape[1]):
            partial = correlation[:, j] - codes @ gram[:, j] + gram[j, j] * codes[:, j]
            codes[:, j] = soft(partial, penalty, nonnegative) / gram[j, j]
        if np.abs(codes - before).max() < 1e-12:
            break
    polished = polish(observations, dictionary, penalty, np.sign(codes))
    violation = kkt_violation(observations, dictionary, penalty, polished, nonnegative=nonnegative)
    assert violation.max() < 1e-14, "the oracle did not find the minimizer"
    return polished


def polish(observations, dictionary, penalty, signs):
    """Solve the active normal equations for given signs, refined until exact in extended precision.

    The penalty is one number, or one for each entry of a code.
    """
    penalties = np.broadcast_to(np.longdouble(penalty), signs.shape[1:])
    x, d = observations.astype(np.longdouble), dictionary.astype(np.longdouble)
    codes = np.zeros(signs.shape, dtype=np.longdouble)
    for i, sign in enumerate(signs):
        support = np.flatnonzero(sign)
        if len(support) == 0:
            continue
        atoms = d[:, support]
        right = atoms.T @ x[i] - penalties[support] * sign[support]
        codes[i, support] = solve(atoms.T @ atoms, right)
    return codes


def solve(matrix, right):
    """Solve a positive definite system in extended precision, by refinement of a solution in double
    precision.
    """
    # A diagonal scaling keeps the double-precision inverse accurate for columns of different norms.
    scale = 1 / np.sqrt(np.diag(matrix))
    scaled = matrix * scale[:, None] * scale
    inverse, solution = np.linalg.inv(scaled.astype(float)), np.zeros_like(right)
    for _ in range(12):
        solution = solution + inverse @ (scale * right - scaled @ solution)
    return scale * solution


def kkt_violation(
    observations,
    dictionary,
    penalty,
    codes,
    *,
    nonnegative=False,
):
    """Return each sample's violation of the lasso's conditions, in extended precision."""
    x, d, z = (array.astype(np.longdouble) for array in (observations, dictionary, codes))
    threshold = np.longdouble(penalty)
    correlation = (x - z @ d.T) @ d
    inactive = np.maximum((correlation if nonnegative else np.abs(correlation)) - threshold, 0)
    violation = np.where(z != 0, np.abs(correlation - threshold * np.sign(z)), inactive)
    if nonnegative:
        violation = np.maximum(violation, np.maximum(-z, 0))
    return violation.max(1)


class Quadratic:
    """A problem with quadratic objectives as matrices: the Hessian, the slope at zero and the cross
    derivative of the inner one (A, a, C) and of the outer one (B, b, D), and the outer one's part E
    in theta alone.
    """

    def __init__(self, problem):
        self.problem, at = problem, (problem.initial, problem.theta)
        grad, hessian = torch.func.grad, torch.func.hessian

        def parts(function):
            slope = grad(function)
            return (each(*at).numpy() for each in (hessian(function), slope, jacobian(slope, 1)))

        jacobian = torch.func.jacrev
        (self.A, self.a, self.C), (self.B, self.b, self.D) = map(
            parts, (problem.objective, problem.loss)
        )
        self.E = hessian(problem.loss, 1)(*at).numpy()

    def minimizer(self, nu=0.0):
        """Return the minimizer of g + nu f."""
        return -np.linalg.solve(self.A + nu * self.B, self.a + nu * self.b)

    def gradient(self, through=None):
        """Return the exact gradient, or the sum of its direct part and what goes through the
        minimizer.
        """
        z = self.minimizer()
        if through is None:
            through = -self.C.T @ np.linalg.solve(self.A, self.B @ z + self.b)
        return self.D.T @ z + self.E @ self.problem.theta.numpy() + through
