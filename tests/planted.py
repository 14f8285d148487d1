"""Estimators with one defect each, which the checks have to find, and the sound ones that they are
made from.
"""

from __future__ import annotations

import dataclasses
import weakref
from dataclasses import dataclass

import numpy as np
import torch

from pudle import Estimate, GradientEstimator, UnsupportedProblem, streams
from pudle.algorithms import Ista
from pudle.algorithms.unrolling import direct_gradients, gradients, losses_at, unrolled_gradients
from pudle.estimator import through_minimizer
from pudle.validation import check_integer


@dataclass(frozen=True)
class Sound(GradientEstimator):
    """Reverse mode through all layers, written plainly."""

    name = "planted"
    computes = "unrolled"

    def estimate(self, problem, algorithm, depth):
        with torch.enable_grad():
            theta = problem.theta.detach().requires_grad_()
            live = problem.with_theta(theta)
            codes = self.layers(live, problem, algorithm, depth)
            (gradient,) = gradients(live.outer_loss(codes), (theta,))
        return Estimate(self.spoil(gradient, problem, depth), codes.detach())

    def layers(self, live, problem, algorithm, depth):
        # The step rests on the given problem, which is not differentiated.
        algorithm = dataclasses.replace(algorithm, step=algorithm.step_size(problem))
        return algorithm.run(live, depth).codes

    def spoil(self, gradient, problem, depth):
        return gradient


def spoiled(function, **attributes):
    """Make a sound estimator whose gradient goes through `function(gradient, problem, depth)` at
    the end.
    """
    body = {
        "spoil": lambda self, gradient, problem, depth: function(gradient, problem, depth),
        "__doc__": "Spoiled.",
    }
    return dataclass(frozen=True)(type("Spoiled", (Sound,), body | attributes))


def transposed_in_shape(gradient, problem, depth):
    return gradient.T.reshape(gradient.shape).clone() if gradient.ndim == 2 else gradient


def written_into(gradient, problem, depth):
    problem.observations.mul_(1.5)
    return gradient


def written_and_restored(gradient, problem, depth):
    problem.observations.mul_(2).div_(2)
    return gradient


def left_requiring(gradient, problem, depth):
    problem.theta.requires_grad_(True)
    return gradient


def filled_grad(gradient, problem, depth):
    problem.theta.requires_grad_()
    problem.theta.grad = gradient
    return gradient


def switched_off(gradient, problem, depth):
    torch._C._set_grad_enabled(False)
    return gradient


@dataclass(frozen=True)
class DropsCodePath(Sound):
    """Claims the unrolled gradient, returns the direct part."""

    def layers(self, live, problem, algorithm, depth):
        return super().layers(live, problem, algorithm, depth).detach()


@dataclass(frozen=True)
class Inconsistent(DropsCodePath):
    """Claims rightly that it is direct, and wrongly that its error vanishes for every loss."""

    computes = "direct"


@dataclass(frozen=True)
class AssumesSymmetry(GradientEstimator):
    """The implicit function theorem with the Jacobian where its transpose belongs."""

    name = "planted"
    computes = "implicit"

    def estimate(self, problem, algorithm, depth):
        with torch.no_grad():
            codes = algorithm.run(problem, depth).codes
        direct, code_gradient = direct_gradients(problem, codes)
        solution, _ = problem.solve_tangent(codes, code_gradient)
        return Estimate(direct + through_minimizer(problem, codes, solution), codes)


@dataclass(frozen=True)
class FrobeniusStep(Sound):
    """Takes the Frobenius norm for the largest singular value."""

    def layers(self, live, problem, algorithm, depth):
        matrix = getattr(problem, "dictionary", problem.theta)
        return (
            dataclasses.replace(algorithm, step=float(1 / matrix.square().sum()))
            .run(live, depth)
            .codes
        )


@dataclass(frozen=True)
class FrobeniusGradient(FrobeniusStep):
    """The same wrong gradient, but with the right codes."""

    def estimate(self, problem, algorithm, depth):
        return dataclasses.replace(
            super().estimate(problem, algorithm, depth),
            codes=algorithm.run(problem, depth).codes.detach(),
        )


@dataclass(frozen=True)
class MovingStep(Sound):
    """Differentiates the step along with the layers."""

    def layers(self, live, problem, algorithm, depth):
        codes = live.initial_codes()
        if algorithm.name != "ista" or live.theta.ndim != 2:
            raise UnsupportedProblem(
                "planted treats dense dictionaries under ista: use backprop instead"
            )
        step = 1 / torch.linalg.matrix_norm(live.theta, 2).square()
        for iteration in range(depth):
            codes = live.prox(
                codes - step * live.smooth_gradient(codes), step, algorithm.thresholding, iteration
            )
        return codes


@dataclass(frozen=True)
class EarlierSupport(Sound):
    """Right codes at every layer, but their derivative is masked by the support of the layer
    before.
    """

    def layers(self, live, problem, algorithm, depth):
        if algorithm.name != "ista":
            raise UnsupportedProblem(
                "planted treats only plain layers: use ista, or backprop instead"
            )
        step = algorithm.step_size(problem)
        state = algorithm.start(live)
        for _ in range(depth):
            after = algorithm.advance(live, state, step)
            mask = live.active(state.codes if state.iteration else after.codes)
            masked = torch.where(mask, state.codes - step * live.smooth_gradient(state.codes), 0)
            codes = masked + (after.codes - masked).detach()
            state = dataclasses.replace(after, codes=codes, point=codes)
        return state.codes


@dataclass(frozen=True)
class SinglePrecision(Sound):
    """Casts to float32 on the way."""

    def estimate(self, problem, algorithm, depth):
        tensors = {
            field.name: value.float()
            for field in dataclasses.fields(problem)
            if isinstance(value := getattr(problem, field.name), torch.Tensor)
        }
        start = algorithm.initial
        algorithm = dataclasses.replace(algorithm, initial=None if start is None else start.float())
        result = super().estimate(dataclasses.replace(problem, **tensors), algorithm, depth)
        return Estimate(result.gradient.to(problem.theta), result.codes.to(problem.theta))


@dataclass(frozen=True)
class SinglePrecisionGradient(SinglePrecision):
    """The same, but with codes in full precision."""

    def estimate(self, problem, algorithm, depth):
        gradient = super().estimate(problem, algorithm, depth).gradient
        return Estimate(gradient, algorithm.run(problem, depth).codes.detach())


@dataclass(frozen=True)
class ExtrapolatedCodes(Sound):
    """Returns the point of the next gradient step as the codes."""

    def layers(self, live, problem, algorithm, depth):
        return algorithm.run(live, depth).states[depth].point


@dataclass(frozen=True)
class ColdStart(Sound):
    """Ignores the algorithm's warm start."""

    def layers(self, live, problem, algorithm, depth):
        return super().layers(live, problem, dataclasses.replace(algorithm, initial=None), depth)


@dataclass(frozen=True)
class PlainStart(Sound):
    """Takes NOODL's iteration for hard thresholding from zero codes, without its start and its
    first updates.
    """

    def layers(self, live, problem, algorithm, depth):
        if algorithm.name == "noodl":
            algorithm = Ista(algorithm.step, algorithm.thresholding)
        return super().layers(live, problem, algorithm, depth)


@dataclass(frozen=True)
class AnyStep(Sound):
    """Runs its own layers at whatever step it is given."""

    def layers(self, live, problem, algorithm, depth):
        step = algorithm.step or 1 / problem.lipschitz_constant
        state = algorithm.start(live)
        for _ in range(depth):
            state = algorithm.advance(live, state, step)
        return state.codes


@dataclass(frozen=True)
class Window(Sound):
    """Reverse mode through the last layers: `used` are differentiated and `reported` are reported."""

    window: int = 5

    computes = "truncated"
    consistent_for = ("lasso",)

    def used(self, depth):
        return min(self.window, depth)

    def reported(self, depth):
        return self.used(depth)

    def estimate(self, problem, algorithm, depth):
        object.__setattr__(self, "_depth", check_integer("depth", depth, 0))
        result = super().estimate(problem, algorithm, depth)
        return dataclasses.replace(
            result, diagnostics={"layers_differentiated": self.reported(depth)}
        )

    def layers(self, live, problem, algorithm, depth):
        step = algorithm.step_size(problem)
        depth -= self.used(depth)
        state = algorithm.run(problem, depth).states[depth].detach()
        for _ in range(self.used(self._depth)):
            state = algorithm.advance(live, state, step)
        return state.codes


@dataclass(frozen=True)
class ClampedWindow(Window):
    """Clamps the window and does not report it."""

    def used(self, depth):
        return min(self.window, depth, 20)

    def reported(self, depth):
        return min(self.window, depth)


@dataclass(frozen=True)
class AdmittedClamp(Window):
    """Clamps the window and reports the clamped window, not the requested one."""

    def used(self, depth):
        return min(self.window, depth, 20)


@dataclass(frozen=True)
class OneLayerMore(Window):
    """Off by one."""

    def used(self, depth):
        return min(self.window + 1, depth)

    def reported(self, depth):
        return min(self.window, depth)


@dataclass(frozen=True)
class Unreported(Window):
    """Does not report its window."""

    def reported(self, depth):
        return None


@dataclass(frozen=True)
class Damped(Window):
    """An honest approximation: the last layers, with the path through the codes damped."""

    computes = "approximate"

    def layers(self, live, problem, algorithm, depth):
        codes = super().layers(live, problem, algorithm, depth)
        return codes.detach() + 0.8 * (codes - codes.detach())


def damped(function=lambda gradient, problem, depth: gradient, **attributes):
    """Make the honest approximation with another claim, or with its gradient spoiled."""
    body = {
        "spoil": lambda self, gradient, problem, depth: function(gradient, problem, depth),
        "__doc__": "Damped.",
    }
    return dataclass(frozen=True)(type("DampedToo", (Damped,), body | attributes))()


def mixed(gradient, problem, depth):
    """Weight the gradient by the share of the first sample, as if samples were of different worth."""
    sizes = problem.observations.flatten(1).norm(dim=1)
    return gradient * (1 + sizes[0] / sizes.sum())


@dataclass(frozen=True)
class DampedByChance(Damped):
    """The approximation, damped by a number that no seed repeats."""

    def layers(self, live, problem, algorithm, depth):
        codes = Window.layers(self, live, problem, algorithm, depth)
        share = np.random.default_rng().uniform(0.5, 1)
        return codes.detach() + share * (codes - codes.detach())


@dataclass(frozen=True)
class Smoothing(GradientEstimator):
    """Antithetic smoothing; the difference is multiplied by `factor` and the direction."""

    seed: int = 0
    scale: float = 1e-2

    name = "planted"
    computes = "stochastic"

    def factor(self):
        return 1 / (2 * self.scale)

    def draw(self, shape, index):
        return streams.generator(self.seed, f"planted {index}").standard_normal(shape)

    @torch.no_grad()
    def estimate(self, problem, algorithm, depth):
        depth = check_integer("depth", depth, 0)
        total = torch.zeros_like(problem.theta)
        for index in range(20):
            direction = torch.as_tensor(self.draw(tuple(problem.theta.shape), index)).to(total)
            above, below = (
                losses_at(
                    problem, algorithm, problem.theta + sign * self.scale * direction, [depth]
                )[0]
                for sign in (1, -1)
            )
            total += (above - below) * self.factor() * direction / 20
        return Estimate(total, algorithm.run(problem, depth).codes, {"evaluations": 40})


@dataclass(frozen=True)
class SquaredScale(Smoothing):
    """The direction is multiplied by the scale and the difference not divided by it: scale^2 times
    the gradient.
    """

    def factor(self):
        return self.scale / 2


@dataclass(frozen=True)
class UnitNormDirections(Smoothing):
    """Normalized directions without the factor that compensates for the normalization."""

    def draw(self, shape, index):
        direction = np.asarray(super().draw(shape, index))
        return direction / np.linalg.norm(direction)


@dataclass(frozen=True)
class GlobalDraws(Smoothing):
    """Draws from the global random state."""

    def draw(self, shape, index):
        return torch.randn(shape, dtype=torch.float64).numpy()


@dataclass(frozen=True)
class UnweightedWindow(GradientEstimator):
    """A random window without the weights that compensate for the layers before it."""

    seed: int = 0
    stop: float = 0.05

    name = "planted"
    computes = "stochastic"

    def estimate(self, problem, algorithm, depth):
        window = int(streams.generator(self.seed, "planted window").geometric(self.stop))
        return Window(window=window).estimate(problem, algorithm, depth)


@dataclass(frozen=True)
class Unseeded(GradientEstimator):
    """Random, without a field that chooses the draws."""

    name = "planted"
    computes = "stochastic"

    def estimate(self, problem, algorithm, depth):
        return Smoothing().estimate(problem, algorithm, depth)


@dataclass(frozen=True)
class Implicit(GradientEstimator):
    """Implicit differentiation; defects override `at` or `solve`."""

    name = "planted"
    computes = "implicit"

    def at(self, trajectory, depth):
        return trajectory.codes

    def solve(self, problem, codes, right):
        return problem.solve_active(codes, right)[0]

    def estimate(self, problem, algorithm, depth):
        depth = check_integer("depth", depth, 0)
        with torch.no_grad():
            trajectory = algorithm.run(problem, depth, keep=range(depth))
        codes = self.at(trajectory, depth)
        direct, code_gradient = direct_gradients(problem, codes)
        solution = self.solve(problem, codes, code_gradient)
        with torch.enable_grad():
            theta = problem.theta.detach().requires_grad_()
            (through,) = gradients(
                problem.with_theta(theta).stationarity(codes), (theta,), solution
            )
        return Estimate(direct - through, trajectory.codes, {"condition_number": 1.0})


@dataclass(frozen=True)
class ImplicitEarlier(Implicit):
    """The implicit gradient at the codes of an earlier layer."""

    def at(self, trajectory, depth):
        return trajectory.at(max(depth - 1, 0))


@dataclass(frozen=True)
class ImplicitEverywhere(Implicit):
    """The system is not restricted to the support."""

    def solve(self, problem, codes, right):
        everywhere = torch.ones_like(codes)
        return problem.solve_active(everywhere, right)[0]


@dataclass(frozen=True)
class ImplicitNegated(Implicit):
    """The correction with the wrong sign, and a claim only for the lasso loss, where the correction
    vanishes.
    """

    consistent_for = ("lasso",)

    def solve(self, problem, codes, right):
        return -super().solve(problem, codes, right)


@dataclass(frozen=True)
class SortedSweep(Sound):
    """Sweeps in ascending order whatever order was asked for."""

    def sweep(self, problem, algorithm, depths):
        for depth in sorted(depths):
            yield self.estimate(problem, algorithm, depth)


@dataclass(frozen=True)
class ShortSweep(Sound):
    """Yields each depth once."""

    def sweep(self, problem, algorithm, depths):
        for depth in dict.fromkeys(depths):
            yield self.estimate(problem, algorithm, depth)


@dataclass(frozen=True)
class LeakySweep(Sound):
    """Yields from inside a context that switches grad mode."""

    def sweep(self, problem, algorithm, depths):
        with torch.enable_grad():
            for depth in depths:
                yield self.estimate(problem, algorithm, depth)


@dataclass(frozen=True)
class NegativeDepth(Sound):
    """Runs a negative depth as depth zero."""

    def layers(self, live, problem, algorithm, depth):
        return super().layers(live, problem, algorithm, max(int(depth), 0))


@dataclass(frozen=True)
class Crashes(Sound):
    """Crashes on problems that it was not written for."""

    def layers(self, live, problem, algorithm, depth):
        rows, columns = problem.theta.shape
        return super().layers(live, problem, algorithm, depth)


@dataclass(frozen=True)
class RefusesSilently(Sound):
    """Refuses without a reason."""

    def estimate(self, problem, algorithm, depth):
        if problem.theta.ndim != 2:
            raise UnsupportedProblem("no")
        return super().estimate(problem, algorithm, depth)


@dataclass(frozen=True)
class RefusesEverything(Sound):
    """Refuses everything, with a reason."""

    def estimate(self, problem, algorithm, depth):
        raise UnsupportedProblem("planted treats no problem at all: use backprop instead")


@dataclass(frozen=True)
class Solves(Sound):
    """Reports solves, but not how singular the systems were."""

    def estimate(self, problem, algorithm, depth):
        return dataclasses.replace(
            super().estimate(problem, algorithm, depth), diagnostics={"solves": 3}
        )


@dataclass
class Thawed(GradientEstimator):
    """A dataclass that is not frozen."""

    name = "planted"
    computes = "unrolled"
    estimate, layers, spoil = Sound.estimate, Sound.layers, Sound.spoil


class Remembers(Sound):
    """Adds what it returned the last time, like a running mean that is kept on the class."""

    last = 0.0

    def spoil(self, gradient, problem, depth):
        result = gradient + 1e-6 * Remembers.last
        Remembers.last = float(gradient.norm())
        return result


def zero_over_zero(gradient, problem, depth):
    # A derivative of the norm of the change of the codes: 0 / 0 once they have converged.
    with np.errstate(all="ignore"):
        return gradient * (float("nan") if depth > 900 else 1.0)


def wrong_where(condition, factor=1.01):
    """Make an estimator whose gradient is a percent too large where `condition(problem, depth)`
    holds.
    """
    return spoiled(
        lambda gradient, problem, depth: gradient * (factor if condition(problem, depth) else 1.0)
    )()


def atoms_of_other_norms(problem, depth):
    return problem.theta.ndim == 2 and bool((problem.theta.norm(dim=0) - 1).abs().max() > 1e-6)


def written_through_data(gradient, problem, depth):
    problem.observations.data.mul_(2).div_(2)
    return gradient


def several_channels(problem, depth):
    return problem.observations.ndim == 4 and problem.observations.shape[1] > 1


@dataclass(frozen=True)
class Changed(Sound):
    """Defects that run the layers of another problem or algorithm, in `changed`."""

    def layers(self, live, problem, algorithm, depth):
        return super().layers(*self.changed(live, problem, algorithm), depth)

    def changed(self, live, problem, algorithm):
        raise NotImplementedError


class HardAsSoft(Changed):
    """Treats hard thresholding as soft."""

    def changed(self, live, problem, algorithm):
        hard = algorithm.thresholding.name == "hard"
        return (
            live,
            problem,
            dataclasses.replace(algorithm, thresholding="soft") if hard else algorithm,
        )


class NoDecay(Changed):
    """Lets no threshold decay where a run is accelerated."""

    def changed(self, live, problem, algorithm):
        decays = algorithm.thresholding.name == "decaying" and algorithm.name == "fista"
        return (
            live,
            problem,
            dataclasses.replace(algorithm, thresholding="soft") if decays else algorithm,
        )


class NoRestart(Changed):
    """Never restarts the momentum from a warm start."""

    def changed(self, live, problem, algorithm):
        warm = getattr(algorithm, "restart", False) and algorithm.initial is not None
        return live, problem, dataclasses.replace(algorithm, restart=False) if warm else algorithm


class OwnStep(Changed):
    """Takes 1/L whatever step is given, on images."""

    def changed(self, live, problem, algorithm):
        images = problem.observations.ndim == 4
        return live, problem, dataclasses.replace(algorithm, step=None) if images else algorithm


class TwoSided(Sound):
    """Forgets that codes of images are not negative."""

    def estimate(self, problem, algorithm, depth):
        if problem.observations.ndim == 4 and problem.nonnegative:
            problem = dataclasses.replace(problem, nonnegative=False)
        return super().estimate(problem, algorithm, depth)


class OwnTargets(Sound):
    """Compares with the observations where other targets are given; the codes are right."""

    def estimate(self, problem, algorithm, depth):
        if getattr(problem, "targets", None) is not None:
            problem = dataclasses.replace(problem, targets=None)
        return super().estimate(problem, algorithm, depth)


class OtherSweep(Sound):
    """Sweeps one layer too far on images."""

    def sweep(self, problem, algorithm, depths):
        for depth in depths:
            yield self.estimate(problem, algorithm, depth + (problem.observations.ndim == 4))


class Cached(Sound):
    """Keeps results by the shape of theta, the loss and the depth."""

    kept = {}

    def estimate(self, problem, algorithm, depth):
        key = (
            type(problem),
            tuple(problem.theta.shape),
            problem.code_shape,
            problem.theta.dtype,
            str(algorithm),
            depth,
        )
        if key not in Cached.kept:
            Cached.kept[key] = super().estimate(problem, algorithm, depth)
        return Cached.kept[key]


class KeptByStart(Sound):
    """Keeps results by problem, algorithm and depth; algorithms that differ in their start alone
    are equal.
    """

    kept = weakref.WeakKeyDictionary()

    def estimate(self, problem, algorithm, depth):
        kept = KeptByStart.kept.setdefault(problem, {})
        if (algorithm, depth) not in kept:
            kept[algorithm, depth] = super().estimate(problem, algorithm, depth)
        return kept[algorithm, depth]


class FourHundredLayers(Sound):
    """Differentiates at most 400 layers and reports all."""

    def estimate(self, problem, algorithm, depth):
        if depth <= 400:
            return super().estimate(problem, algorithm, depth)
        ((gradient, codes),) = unrolled_gradients(problem, algorithm, [depth], 400)
        return Estimate(gradient, codes, {"layers": depth, "layers_differentiated": depth})

    def sweep(self, problem, algorithm, depths):
        yield from (self.estimate(problem, algorithm, depth) for depth in depths)


class OneBuffer(Sound):
    """Returns the same memory every time."""

    buffers = {}

    def spoil(self, gradient, problem, depth):
        buffer = OneBuffer.buffers.setdefault(
            (gradient.shape, gradient.dtype), torch.empty_like(gradient)
        )
        return buffer.copy_(gradient)


class WritesStart(Sound):
    """Starts by writing to the warm start."""

    def estimate(self, problem, algorithm, depth):
        if algorithm.initial is not None:
            algorithm.initial.clamp_(min=0)
        return super().estimate(problem, algorithm, depth)


class Viewed(Sound):
    """Relies on tensors that lie row by row in memory."""

    def estimate(self, problem, algorithm, depth):
        problem.observations.view(-1)
        return super().estimate(problem, algorithm, depth)


class MixedSamples(Sound):
    """Divides by the number of samples that are not zero."""

    def spoil(self, gradient, problem, depth):
        used = (problem.observations.flatten(1) != 0).any(1).double().mean()
        return gradient / used.to(gradient) if used else gradient


class ClampedFarOut(Window):
    """Clamps the window at 100 and does not report it."""

    def used(self, depth):
        return min(self.window, depth, 100)

    def reported(self, depth):
        return min(self.window, depth)


class SweepKeepsOrder(Sound):
    """Sweeps from the greatest depth down where there are more than three depths."""

    def sweep(self, problem, algorithm, depths):
        yield from (
            self.estimate(problem, algorithm, depth)
            for depth in (sorted(depths)[::-1] if len(depths) > 3 else depths)
        )


class MomentumLost(Sound):
    """Restarts the accelerated sequence in the middle of a long run."""

    def layers(self, live, problem, algorithm, depth):
        step, state = algorithm.step_size(problem), algorithm.start(live)
        for iteration in range(depth):
            if iteration == 50:
                state = dataclasses.replace(
                    algorithm.start(live, state.codes), codes=state.codes, point=state.codes
                )
                state = dataclasses.replace(state, iteration=iteration)
            state = algorithm.advance(live, state, step)
        return state.codes


class Threads(Sound):
    """Leaves the number of threads changed."""

    def spoil(self, gradient, problem, depth):
        torch.set_num_threads(3)
        return gradient


class WeightsDirect(Sound):
    """Adds a multiple of the parameter, as weight decay does, once there are many samples."""

    def spoil(self, gradient, problem, depth):
        return gradient + 1e-4 * problem.theta.detach() * (len(problem.observations) > 20)


class ImplicitOneStep(Implicit):
    """Divides by the largest eigenvalue instead of solving, where the elastic net makes the system
    easy.
    """

    def solve(self, problem, codes, right):
        if getattr(problem, "l2_penalty", 0) and problem.observations.ndim == 4:
            return right / problem.lipschitz_constant * (codes != 0)
        return super().solve(problem, codes, right)


class ImplicitLargestSample(Implicit):
    """Drops the correction of a problem with a single sample."""

    def solve(self, problem, codes, right):
        return super().solve(problem, codes, right) * (len(codes) > 1)


class WindowFromStart(Window):
    """Takes the first layers for the last where the window is long."""

    def used(self, depth):
        return min(self.window, depth) if self.window < 64 else min(max(self.window - 1, 1), depth)

    def reported(self, depth):
        return min(self.window, depth)


class WritesTheta(Sound):
    """Renormalizes the parameter in place, and puts it back through a view."""

    def spoil(self, gradient, problem, depth):
        view = problem.theta.detach().view(-1)
        view += 0
        return gradient


class LateCodes(Sound):
    """Returns the codes of the layer before, at great depth."""

    def estimate(self, problem, algorithm, depth):
        result = super().estimate(problem, algorithm, depth)
        if depth > 150:
            return dataclasses.replace(
                result, codes=algorithm.run(problem, depth - 1).codes.detach()
            )
        return result


class SmoothingOneSided(Smoothing):
    """Scales the mean by the number of samples where that is below five."""

    def estimate(self, problem, algorithm, depth):
        result = super().estimate(problem, algorithm, depth)
        few = len(problem.observations) < 5
        return (
            dataclasses.replace(result, gradient=result.gradient * len(problem.observations))
            if few
            else result
        )


#: Sound estimators, by what they claim.
SOUND = {
    "unrolled": Sound(),
    "truncated": Window(),
    "stochastic": Smoothing(),
    "implicit": Implicit(),
    "approximate": Damped(),
}
#: For each defect: the estimator, the check that must find it, and words that the reason must
#: contain.
DEFECTS = {
    "scaled by scale^2": (SquaredScale(), "mean", "near scale^2 = 0.0001"),
    "directions of unit norm": (UnitNormDirections(), "mean", "standard errors"),
    "random window unweighted": (
        UnweightedWindow(),
        "mean",
        "standard errors from the unrolled gradient",
    ),
    "scaled by n": (
        spoiled(lambda g, p, t: g * len(p.observations))(),
        "claim",
        "a sum over samples",
    ),
    "scaled by 1/n": (spoiled(lambda g, p, t: g / len(p.observations))(), "claim", "1/n"),
    "negated": (spoiled(lambda g, p, t: -g)(), "claim", "negated"),
    "halved": (spoiled(lambda g, p, t: g / 2)(), "claim", "a factor 1/2"),
    "transposed": (
        spoiled(lambda g, p, t: g.T if g.ndim == 2 else g)(),
        "form",
        "shape (12, 8) instead of (8, 12)",
    ),
    "transposed, square": (
        spoiled(lambda g, p, t: g.T.clone() if g.ndim == 2 and g.shape[0] == g.shape[1] else g)(),
        "claim",
        "transposed",
    ),
    "transposed, reshaped": (spoiled(transposed_in_shape)(), "claim", "off from"),
    "window clamped": (
        ClampedWindow(),
        "window",
        "the derivative through the last 20 layers alone at depth 40, instead of",
    ),
    "window clamped, admitted": (
        AdmittedClamp(),
        "window",
        "window=39 at depth 40 differentiates 20 layers instead of 39",
    ),
    "window off by one": (
        OneLayerMore(),
        "claim",
        "the derivative through the last 6 layers alone",
    ),
    "window not reported": (Unreported(), "claim", "layers_differentiated=None"),
    "Frobenius step": (FrobeniusStep(), "claim", "those of a step from the Frobenius norm"),
    "Frobenius step, codes right": (FrobeniusGradient(), "claim", "a step from the Frobenius norm"),
    "step differentiated": (MovingStep(), "claim", "off from"),
    "earlier support": (EarlierSupport(), "claim", "off from"),
    "implicit for unrolled": (
        type("I", (Implicit,), {"computes": "unrolled"})(),
        "claim",
        "the implicit gradient",
    ),
    "implicit at an earlier layer": (
        ImplicitEarlier(),
        "claim",
        "at the codes of an earlier layer",
    ),
    "implicit off the support": (ImplicitEverywhere(), "claim", "off from"),
    "implicit negated": (
        ImplicitNegated(),
        "claim",
        "the correction of the direct part with the wrong sign",
    ),
    "code path dropped": (
        DropsCodePath(),
        "claim",
        "the direct part alone, without the path through the codes",
    ),
    "dtype changed": (
        spoiled(lambda g, p, t: g.double())(),
        "form",
        "gradient has dtype torch.float64 on a problem with",
    ),
    "device changed": (
        spoiled(lambda g, p, t: g.to("meta"))(),
        "form",
        "gradient has device meta on a problem with",
    ),
    "graph kept": (spoiled(lambda g, p, t: g.requires_grad_())(), "form", "still has a graph"),
    "array returned": (spoiled(lambda g, p, t: g.numpy())(), "form", "gradient is a ndarray"),
    "float32 inside": (SinglePrecision(), "claim", "is there float32 in their path"),
    "float32 inside, codes right": (
        SinglePrecisionGradient(),
        "claim",
        "float32, or a difference quotient, in its path",
    ),
    "problem written to": (
        spoiled(written_into)(),
        "no_mutation",
        "observations was changed, by 5.0e-01 of its norm",
    ),
    "problem written to and restored": (
        spoiled(written_and_restored)(),
        "no_mutation",
        "the old values put back",
    ),
    "requires_grad left on": (spoiled(left_requiring)(), "no_mutation", "requires_grad was left"),
    "grad filled": (spoiled(filled_grad)(), "no_mutation", "grad was filled"),
    "global random state": (GlobalDraws(), "random_state", "global random state of torch"),
    "grad mode switched": (spoiled(switched_off)(), "global_modes", "grad mode is switched"),
    "state kept": (Remembers(), "repeatable", "keep no state"),
    "NaN at great depth": (
        spoiled(zero_over_zero)(),
        "great_depth",
        "NaN or infinite at depth 1000: refuse with a reason",
    ),
    "NaN replaced": (
        spoiled(lambda g, p, t: g.nan_to_num(0, 0, 0).clamp(-1e3, 1e3))(),
        "overflow",
        "never replace NaN",
    ),
    "sweep sorted": (SortedSweep(), "claim", "codes at depth"),
    "sweep short": (ShortSweep(), "claim", "yields 3 estimates instead of 4"),
    "sweep leaks grad mode": (LeakySweep(), "global_modes", "grad mode is switched"),
    "negative depth run": (NegativeDepth(), "impossible_depth", "estimate at depth -1 returned"),
    "divergent step run": (AnyStep(), "divergent_step", "2.1/L was run"),
    "warm start ignored": (ColdStart(), "claim", "with the warm start ignored"),
    "start of NOODL ignored": (PlainStart(), "claim", "codes at depth"),
    "extrapolated point for codes": (ExtrapolatedCodes(), "claim", "codes at depth"),
    "crash": (Crashes(), "claim", "raised ValueError: not enough values to unpack"),
    "refusal without reason": (RefusesSilently(), "claim", "refuses with 'no'"),
    "refusal of everything": (RefusesEverything(), "claim", "refuses every problem"),
    "uphill": (
        spoiled(lambda g, p, t: -g, computes="heuristic", consistent_for=())(),
        "descent",
        "does not lower the loss",
    ),
    "approximation called truncated": (
        damped(computes="truncated"),
        "claim",
        "off from the derivative through",
    ),
    "approximation called implicit": (
        damped(computes="implicit"),
        "claim",
        "off from the implicit gradient",
    ),
    "approximation that points away": (
        damped(lambda g, p, t: -g),
        "approximation",
        "it approximates none of them",
    ),
    "approximation that is zero": (
        damped(lambda g, p, t: 0 * g),
        "approximation",
        "it approximates none of them",
    ),
    "approximation in another unit": (
        damped(lambda g, p, t: g * g.norm()),
        "units",
        "in other units are off by",
    ),
    "approximation summed over samples": (
        damped(lambda g, p, t: g * len(p.observations)),
        "samples",
        "off from the mean over samples",
    ),
    "approximation of mixed samples": (damped(mixed), "samples", "off from the mean over samples"),
    "approximation that writes": (damped(written_into), "no_mutation", "observations was changed"),
    "approximation by chance": (DampedByChance(), "repeatable", "keep no state"),
    "approximation consistent for all": (
        damped(consistent_for=None),
        "consistency",
        "it does not vanish, though",
    ),
    "false consistency": (
        Inconsistent(),
        "consistency",
        "it does not vanish, though consistent_for is None",
    ),
    "unseeded": (Unseeded(), "mean", "needs a field `seed`"),
    "solves without conditions": (Solves(), "singular_systems", "not how singular they were"),
    "not frozen": (Thawed(), "description", "is not frozen"),
    "unknown claim": (
        spoiled(lambda g, p, t: g, computes="exact")(),
        "description",
        "computes is 'exact'",
    ),
    "unknown loss": (
        spoiled(lambda g, p, t: g, consistent_for=("Lasso",))(),
        "description",
        "names ['Lasso']",
    ),
    "letters for aliases": (
        spoiled(lambda g, p, t: g, aliases="mine")(),
        "description",
        "aliases is 'mine'",
    ),
    "no name": (
        spoiled(lambda g, p, t: g, name="my method")(),
        "description",
        "name is 'my method'",
    ),
    "window clamped at 100": (
        ClampedFarOut(),
        "window",
        "of 500 layers",
    ),
    "window clamped at 100, random": (
        ClampedFarOut(),
        "claim",
        "off from the derivative",
    ),
    "wrong for one sample": (
        wrong_where(lambda p, t: len(p.observations) == 1),
        "claim",
        "observations=(1, ",
    ),
    "wrong for thousands": (
        wrong_where(lambda p, t: len(p.observations) > 1000),
        "claim",
        "off from",
    ),
    "wrong for other norms": (
        wrong_where(atoms_of_other_norms),
        "claim",
        "off from the derivative",
    ),
    "wrong at some depths": (
        wrong_where(lambda p, t: 65 <= t <= 119),
        "claim",
        "off from the derivative",
    ),
    "wrong at one depth": (wrong_where(lambda p, t: t == 100), "claim", "at depth 100"),
    "wrong at great depth": (
        wrong_where(lambda p, t: t > 300),
        "claim",
        "off from the derivative",
    ),
    "wrong for large dictionaries": (
        wrong_where(lambda p, t: p.theta.numel() > 1000),
        "claim",
        "off from the",
    ),
    "wrong for channels": (
        wrong_where(several_channels),
        "claim",
        "off from the derivative",
    ),
    "wrong for one atom": (
        wrong_where(lambda p, t: p.code_shape[1] == 1),
        "claim",
        "off from the unrolled",
    ),
    "wrong for a moved strength": (
        wrong_where(lambda p, t: p.theta.ndim == 0 and p.theta != 0),
        "claim",
        "off from the derivative",
    ),
    "wrong for one penalty": (
        wrong_where(lambda p, t: hasattr(p, "log_penalty") and p.theta.ndim == 0),
        "claim",
        "off from",
    ),
    "wrong for learned penalties": (
        wrong_where(lambda p, t: p.theta.ndim == 2 and p.observations.ndim == 4),
        "claim",
        "off from",
    ),
    "wrong in single precision": (
        spoiled(lambda g, p, t: g * (1.0 if g.dtype == torch.float64 or g.ndim == 2 else 1.1))(),
        "single_precision",
        "float32 and float64 differ",
    ),
    "symmetry assumed": (AssumesSymmetry(), "claim", "off from the implicit gradient"),
    "objectives only": (
        wrong_where(lambda p, t: p.default_algorithm == "iteration"),
        "claim",
        "off from the derivative",
    ),
    "hard thresholding as soft": (HardAsSoft(), "claim", "codes at depth"),
    "hard thresholding as soft, random": (HardAsSoft(), "claim", "codes at depth"),
    "no decay": (NoDecay(), "claim", "codes at depth"),
    "no restart": (NoRestart(), "claim", "codes at depth"),
    "step ignored": (OwnStep(), "claim", "codes at depth"),
    "signs ignored": (TwoSided(), "claim", "codes at depth"),
    "targets ignored": (OwnTargets(), "claim", "off from the derivative"),
    "sweep unlike estimate": (OtherSweep(), "claim", "differ by"),
    "written through data": (
        spoiled(written_through_data)(),
        "no_mutation",
        "the old values put back",
    ),
    "warm start written to": (WritesStart(), "no_mutation", "initial was changed"),
    "results kept by shape": (Cached(), "units", "of a problem in other units are off"),
    # The two of a fresh reader's twenty that the checks let through at first.
    "results kept without their start": (
        KeptByStart(),
        "repeatable",
        "after a call from another start",
    ),
    "at most 400 layers": (
        FourHundredLayers(),
        "claim",
        "of 401 layers",
    ),
    "one buffer": (OneBuffer(), "repeatable", "a later call changes the gradient"),
    "views of memory": (Viewed(), "claim", "raised RuntimeError: view size"),
    "zero samples left out": (MixedSamples(), "samples", "off from the mean over samples"),
    # The twenty that follow were written after the checks had been fixed.
    "late: long sweep reordered": (SweepKeepsOrder(), "claim", "codes at depth"),
    "late: momentum lost": (MomentumLost(), "claim", "codes at depth"),
    "late: threads left": (Threads(), "global_modes", "number of threads"),
    "late: weight decay": (WeightsDirect(), "claim", "off from the derivative"),
    "late: implicit without solve": (
        ImplicitOneStep(),
        "claim",
        "off from the implicit gradient",
    ),
    "late: implicit for one sample": (
        ImplicitLargestSample(),
        "claim",
        "off from the implicit gradient",
    ),
    "late: long window off by one": (
        WindowFromStart(),
        "window",
        "off from the derivative",
    ),
    "late: view written": (WritesTheta(), "no_mutation", "the old values put back"),
    "late: codes of the layer before": (LateCodes(), "claim", "codes at depth"),
    "late: mean for few samples": (
        SmoothingOneSided(),
        "samples",
        "off from the mean over samples",
    ),
    "late: even depths": (
        wrong_where(lambda p, t: t > 20 and t % 16 == 0),
        "claim",
        "off from the derivative",
    ),
    "late: filters not square": (
        wrong_where(lambda p, t: p.theta.ndim == 4 and p.theta.shape[2] != p.theta.shape[3]),
        "claim",
        "off from",
    ),
    "late: stride of one": (
        wrong_where(lambda p, t: getattr(p, "stride", 0) == 1),
        "claim",
        "off from the derivative",
    ),
    "late: non-negative images": (
        wrong_where(lambda p, t: p.observations.ndim == 4 and p.nonnegative),
        "claim",
        "off from",
    ),
    "late: non-negative selection": (
        wrong_where(lambda p, t: hasattr(p, "design") and p.nonnegative),
        "claim",
        "off from the derivative",
    ),
    "late: generating codes leak": (
        wrong_where(lambda p, t: getattr(p, "generating_codes", None) is not None),
        "claim",
        "off from",
    ),
    "late: large observations": (
        wrong_where(lambda p, t: p.observations.abs().max() > 30),
        "claim",
        "off from the derivative",
    ),
    "late: one feature": (
        wrong_where(lambda p, t: p.observations.shape[1] == 1 and p.observations.ndim == 2),
        "claim",
        "off from",
    ),
    "late: square dictionary of images": (
        wrong_where(
            lambda p, t: (
                p.observations.ndim == 4 and p.observations.shape[2] == p.observations.shape[3]
            )
        ),
        "claim",
        "off from the derivative",
    ),
    "late: a tiny error": (
        wrong_where(lambda p, t: t > 30, 1 + 3e-9),
        "claim",
        "off from the derivative",
    ),
}
