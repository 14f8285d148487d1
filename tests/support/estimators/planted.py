"""Estimators with one defect each, which the checks have to find."""

import dataclasses
import tempfile
import time
import weakref
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

import pudle
from pudle import Estimate, GradientEstimator, SparseCoding, UnsupportedProblem
from pudle.algorithms.unrolling import differentiable, direct_gradients, gradients
from pudle.estimator import through_minimizer
from pudle.estimators.alternating import Alternating
from pudle.estimators.analytic import Analytic
from pudle.estimators.backprop import Backprop
from pudle.estimators.fixed_point import FixedPointAdjoint
from pudle.estimators.phantom import Phantom
from pudle.estimators.polished import Polished
from pudle.estimators.spsa import Spsa
from pudle.estimators.truncated import Truncated
from pudle.workers import restart_clock

WINDOW, RANDOM = Truncated(window=5), Spsa(samples=20, scale=1e-2)


def wrong(base=None, **parts):
    """Make an estimator that is another one but for some parts or attributes."""
    base = base or Backprop()
    if parts.keys() & {"estimate", "sweep"}:
        # Neither may call the other.
        own = {"estimate": lambda self, *given: base.estimate(*given)}
        parts = {"sweep": GradientEstimator.sweep, **own, **parts}
    cls = dataclass(frozen=True)(
        type("Wrong", (type(base),), {"__doc__": "Wrong.", "__module__": __name__, **parts})
    )
    return cls(**vars(base))


def instead(function, base=None, **parts):
    """Make an estimator whose result is that of `function(problem, algorithm, depth)`."""
    return wrong(base, estimate=lambda self, *given: function(*given), **parts)


def spoiled(function, base=None, **parts):
    """Make an estimator whose gradient goes through `function(gradient, problem, depth)`."""
    base = base or Backprop()

    def estimate(self, problem, algorithm, depth):
        # Options that a check changes are those of the base.
        options = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        result = type(base)(**options).estimate(problem, algorithm, depth)
        return replace(result, gradient=function(result.gradient, problem, depth))

    return wrong(base, estimate=estimate, **parts)


def wrong_where(condition, factor=1.01):
    """Make an estimator whose gradient is too large where `condition(problem, depth)` holds."""
    return spoiled(lambda g, p, t: g * (factor if condition(p, t) else 1.0))


def first(function):
    """Make an estimator that calls `function(problem, algorithm)` before it does anything."""

    def spoil(problem, algorithm, depth):
        function(problem, algorithm)
        return Backprop().estimate(problem, algorithm, depth)

    return instead(spoil)


def refuses(reason, condition=lambda problem: True):
    def refuse(problem, algorithm):
        if condition(problem):
            raise UnsupportedProblem(reason)

    return first(refuse)


def normalized(theta):
    """Return a dictionary, or filters, of unit norm."""
    return theta / theta.square().sum(0 if theta.ndim == 2 else (1, 2, 3), keepdim=True).sqrt()


def without(forget, field=""):
    """Make an estimator of right codes whose derivatives are those of
    `forget(problem, algorithm)`, where the problem has a field.
    """

    def estimate(problem, algorithm, depth):
        has = not field or hasattr(problem, "dictionary") and hasattr(problem, field)
        made = forget(problem, algorithm) if has else (problem, algorithm)
        gradient = Backprop().estimate(*made, depth).gradient
        return with_codes_of(problem, algorithm, depth, gradient)

    return instead(estimate)


def layers(function):
    """Make an estimator that differentiates the codes `function(live, problem, algorithm, depth)`,
    which has the problem at a theta that is differentiated, and the problem itself.
    """

    def estimate(problem, algorithm, depth):
        with torch.enable_grad():
            theta = problem.theta.detach().requires_grad_()
            live = problem.with_theta(theta)
            codes = function(live, problem, algorithm, depth)
            (gradient,) = gradients(live.outer_loss(codes), (theta,))
        return Estimate(gradient, codes.detach())

    return instead(estimate)


def sweeps(depths_of):
    """Make an estimator that sweeps over other depths."""

    def sweep(self, problem, algorithm, depths):
        return (self.estimate(problem, algorithm, depth) for depth in depths_of(problem, depths))

    return wrong(sweep=sweep)


def implicit(solve):
    """Make an implicit estimator that solves its systems by `solve(problem, codes, right)`."""

    def through_codes(self, problem, algorithm, state, right):
        solution = solve(problem, state.codes, right)
        return through_minimizer(problem, state.codes, solution), {"condition_number": 1.0}

    return wrong(Analytic(), through_codes=through_codes)


def windowed(function, base=WINDOW, **parts):
    """Make an estimator that differentiates other windows than it says, those of
    `function(window)`.
    """

    def estimate(self, problem, algorithm, depth):
        window = getattr(self, "window", None) or depth
        result = Truncated(window=function(window or 1)).estimate(problem, algorithm, depth)
        return replace(result, diagnostics={"layers_differentiated": min(window, depth)})

    return wrong(base, estimate=estimate, **parts)


def neumann(weight, **parts):
    """Make a Neumann estimator whose k-th term has the weight `weight(k)`, and which says that it
    tends to the implicit gradient.
    """

    def through_codes(self, problem, algorithm, state, code_gradient):
        step, state_before = algorithm.step_size(problem), max(state.iteration - 1, 0)
        with torch.enable_grad():
            live, theta = differentiable(problem)
            leaf = state.codes.detach().requires_grad_()
            image = algorithm.plain_layer(live, leaf, step, state_before)
        term, total = code_gradient, weight(0) * code_gradient
        for k in range(1, self.terms):
            (term,) = gradients(image, (leaf,), term, keep_graph=True)
            total = total + weight(k) * term
        return gradients(image, (theta,), total)[0], {}

    return wrong(
        FixedPointAdjoint(terms=3),
        through_codes=through_codes,
        **{"approaches": {"implicit": {"terms": 1000}}, **parts},
    )


def without_direct_part(base):
    """Make an estimator that forgets the direct part of the gradient."""

    def estimate(self, problem, algorithm, depth):
        # Options that a check changes are those of the base.
        options = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        result = type(base)(**options).estimate(problem, algorithm, depth)
        direct, _ = direct_gradients(problem, result.codes)
        return replace(result, gradient=result.gradient - direct)

    return wrong(base, estimate=estimate)


class ReducedStep(GradientEstimator):
    """A heuristic: half of the direct part; no dataclass, for it has no options."""

    name = "reduced_step"
    computes = "heuristic"
    consistent_for = ()

    def estimate(self, problem, algorithm, depth):
        result = Alternating().estimate(problem, algorithm, depth)
        return Estimate(result.gradient / 2, result.codes)


class OwnDepth(GradientEstimator):
    """Backpropagation with an option that is lost, because this is no dataclass."""

    factor: float = 1.0

    name = "own_depth"
    computes = "unrolled"

    def estimate(self, problem, algorithm, depth):
        return Backprop().estimate(problem, algorithm, depth)


# --- defects of several lines


def with_codes_of(problem, algorithm, depth, gradient):
    """Return a gradient with the right codes."""
    return Estimate(gradient, algorithm.run(problem, depth).codes.detach())


def run_layers(live, problem, algorithm, depth, step=None):
    """Run layers at any step."""
    step, state = step or algorithm.step_size(problem), algorithm.start(live)
    for _ in range(depth):
        state = algorithm.advance(live, state, step)
    return state


def mean_of_batches(problem, algorithm, depth):
    """Return the mean over batches, of which the last is smaller."""
    if not problem.per_sample or problem.code_shape[0] <= 64 or algorithm.initial is not None:
        return Phantom().estimate(problem, algorithm, depth)
    parts = [Phantom().estimate(each, algorithm, depth) for each in pudle.split(problem, 64)]
    gradient = torch.stack([each.gradient for each in parts]).mean(0)
    return Estimate(gradient, torch.cat([each.codes for each in parts]))


def last_condition(self, problem, algorithm, state, right):
    """Solve all systems, and report how singular the last one was."""
    solution, _ = problem.solve_active(state.codes, right)
    _, diagnostics = problem.solve_active(state.codes[-1:], right[-1:])
    return through_minimizer(problem, state.codes, solution), {"solves": 1, **diagnostics}


def leaky_sweep(self, problem, algorithm, depths):
    with torch.enable_grad():
        for depth in depths:
            yield self.estimate(problem, algorithm, depth)


BUFFERS = {}


def one_buffer(gradient, problem, depth):
    key = gradient.shape, gradient.dtype
    return BUFFERS.setdefault(key, torch.empty_like(gradient)).copy_(gradient)


KEPT = weakref.WeakKeyDictionary()


def kept_by_problem(problem, algorithm, depth):
    """Keep results by problem, algorithm and depth, where algorithms that differ in their start
    alone are equal.
    """
    results = KEPT.setdefault(problem, {})
    if (algorithm, depth) not in results:
        results[algorithm, depth] = Backprop().estimate(problem, algorithm, depth)
    result = results[algorithm, depth]
    return replace(result, gradient=result.gradient.clone())


#: An estimator in a file, which another process can make.
PROCESSES = """
from dataclasses import dataclass, replace
from pudle.estimators.backprop import Backprop
from pudle.estimators.fixed_point import FixedPointAdjoint

@dataclass(frozen=True)
class Planted(Backprop):
    name = "planted"

    def estimate(self, problem, algorithm, depth):
        result = super().estimate(problem, algorithm, depth)
        return replace(result, gradient=result.gradient * FACTOR)

    def sweep(self, problem, algorithm, depths):
        yield from super().sweep(problem, algorithm, depths)
"""


def from_file(factor):
    """Make an estimator of a file whose gradients have a factor."""
    path = Path(tempfile.mkdtemp()) / "planted.py"
    path.write_text(PROCESSES.replace("FACTOR", factor))
    return pudle.make_estimator(str(path))


def estimate_for_three_seconds():
    for _ in range(3):
        time.sleep(1)
        restart_clock()
    return "done"


def memory_cut(live, problem, algorithm, depth):
    """Run layers that hand on derivatives of the codes and the point alone."""
    state, step = algorithm.start(live), algorithm.step_size(problem)
    for _ in range(depth):
        state = algorithm.advance(live, state, step)
        others = state.tensors().keys() - {"codes", "point"}
        state = replace(state, **{name: getattr(state, name).detach() for name in others})
    return state.codes


@dataclass
class Thawed(GradientEstimator):
    """A dataclass that is not frozen."""

    name = "planted"
    computes = "unrolled"

    def estimate(self, problem, algorithm, depth):
        return Backprop().estimate(problem, algorithm, depth)


def one_sided(problem, algorithm, depth):
    """Return a gradient a percent too large where codes in a dense dictionary are nonnegative and
    layers are ISTA's.
    """
    result = Backprop().estimate(problem, algorithm, depth)
    there = type(problem) is SparseCoding and problem.nonnegative and algorithm == pudle.Ista()
    return replace(result, gradient=result.gradient * (1.01 if there else 1.0))


def images(problem):
    return hasattr(problem, "observations") and problem.observations.ndim == 4


#: Where a gradient is a percent too large: all but the first are found by drawn specimens alone.
SOMEWHERE = {
    "an iteration": lambda p, t: p.default_algorithm == "iteration",
    "a part of a larger tensor": lambda p, t: p.theta.ndim == 2 and 1 not in p.theta.stride(),
    "hundreds of samples": lambda p, t: len(getattr(p, "observations", ())) > 200,
    "a derived problem": lambda p, t: SparseCoding in type(p).__bases__,
    "what requires a gradient": lambda p, t: p.theta.requires_grad,
}
#: The defects by the check that must find them, a quick one first; what the reasons must say is in
#: `EXPLAINED`.
DEFECTS = {
    "claim": {
        "negated": spoiled(lambda g, p, t: -g),
        "scaled by n": spoiled(lambda g, p, t: g * len(p.observations)),
        "transposed square": spoiled(
            lambda g, p, t: g.T.clone() if g.shape[:1] == g.shape[1:] else g
        ),
        "code path dropped": wrong(Alternating(), computes="unrolled"),
        "float32 inside": spoiled(lambda g, p, t: g.float().to(g)),
        "a tiny error": wrong_where(lambda p, t: t > 30, 1 + 3e-9),
        "implicit for unrolled": wrong(Analytic(), computes="unrolled"),
        "implicit at an earlier layer": instead(
            lambda p, a, t: with_codes_of(
                p, a, t, Analytic().estimate(p, a, max(t - 1, 0)).gradient
            ),
            Analytic(),
        ),
        "implicit negated": implicit(lambda p, z, r: -p.solve_active(z, r)[0]),
        "symmetry assumed": implicit(lambda p, z, r: p.solve_tangent(z, r)[0]),
        "window off by one": windowed(lambda window: window + 1),
        "at most 400 layers": windowed(lambda window: min(window, 400), Backprop()),
        "crash": first(lambda p, a: p.theta.shape[3]),
        "complex": spoiled(lambda g, p, t: g + 0j),
        "refusal without reason": refuses("no", images),
        "refusal of everything": refuses("planted treats no problem at all: use backprop instead"),
        "sweep short": sweeps(lambda p, depths: dict.fromkeys(depths)),
        "sweep unlike estimate": sweeps(lambda p, depths: [depth + images(p) for depth in depths]),
        "extrapolated point for codes": layers(lambda *given: run_layers(*given).point),
        "memory cut": layers(memory_cut),
        "clamped, admitted": instead(Truncated(window=20).estimate, WINDOW),
        "NaN": spoiled(lambda g, p, t: g * (float("nan") if t > 400 else 1.0), Phantom()),
        "damping of overcomplete systems": spoiled(
            lambda g, p, t: g if p.theta.ndim < 2 or np.less(*p.theta.shape[:2]) else 1.01 * g,
            Analytic(),
        ),
        "layers that are not differentiated": instead(
            lambda p, a, t: replace(
                Alternating().estimate(p, a, t), diagnostics={"layers_differentiated": t}
            ),
            Alternating(),
        ),
        "nonnegative in a dense dictionary": instead(one_sided),
        "nothing to solve at the start": instead(
            lambda p, a, t: (Analytic() if t else Alternating()).estimate(p, a, t), Analytic()
        ),
        "l2 forgotten": without(lambda p, a: (replace(p, l2_penalty=0.0), a), "l2_penalty"),
        "l2 forgotten in the systems": implicit(
            lambda p, z, r: (
                replace(p, l2_penalty=0.0) if getattr(p, "l2_penalty", 0) else p
            ).solve_active(z, r)[0]
        ),
        "the last but one iterate": instead(
            lambda p, a, t: with_codes_of(
                p, a, t, Backprop().estimate(p, a, max(t - 1, 0)).gradient
            )
        ),
        "unit norm": without(lambda p, a: (p.with_theta(normalized(p.theta)), a), "dictionary"),
        "on the sphere": spoiled(
            lambda g, p, t: (
                g - normalized(p.theta) * (normalized(p.theta) * g).sum(0)
                if hasattr(p, "dictionary") and g.ndim == 2
                else g
            )
        ),
        "start ignored": without(lambda p, a: (p, replace(a, initial=None))),
        "transposed": spoiled(lambda g, p, t: g.T if g.ndim == 2 else g),
        "graph kept": spoiled(lambda g, p, t: g.requires_grad_()),
        "of inference mode": instead(torch.inference_mode(Alternating().estimate)),
        "array returned": spoiled(lambda g, p, t: g.numpy()),
        "written for a moment": first(lambda p, a: p.observations.mul_(2).div_(2)),
        "written through data": first(lambda p, a: p.observations.data.mul_(1.5)),
        "warm start written to": first(lambda p, a: a.initial is None or a.initial.clamp_(0)),
        "requires_grad left on": first(lambda p, a: p.theta.requires_grad_(True)),
        "written to in a sweep": wrong(
            sweep=lambda self, p, a, depths: (p.theta.mul_(1.5), iter([]))[1]
        ),
        "draws": spoiled(lambda g, p, t: g + 0 * torch.randn(()).to(g), RANDOM),
        "grad mode switched": first(lambda *_: torch._C._set_grad_enabled(False)),
        "sweep leaks grad mode": wrong(sweep=leaky_sweep),
        "threads left": first(lambda *_: torch.set_num_threads(3)),
        "the best of conditions": implicit(lambda p, z, r: p.solve_active(z, r)[0]),
        "the last of conditions": wrong(Analytic(), through_codes=last_condition),
        "tiny entries dropped": spoiled(lambda g, p, t: g * (g.abs() > 1e-15)),
        "views of memory": first(lambda p, a: images(p) and p.observations.view(-1)),
        **{f"wrong for {name}": wrong_where(condition) for name, condition in SOMEWHERE.items()},
    },
    "mean": {
        "unseeded": wrong(computes="stochastic"),
        "divided by one less": wrong(
            RANDOM,
            estimate=lambda self, *given: replace(
                result := Spsa(**vars(self)).estimate(*given),
                gradient=result.gradient * self.samples / (self.samples - 1),
            ),
        ),
    },
    "direction": {
        "uphill": spoiled(lambda g, p, t: -g, computes="heuristic", consistent_for=()),
        "points away": spoiled(lambda g, p, t: -g, Phantom()),
        "from codes of one sign": spoiled(
            lambda g, p, t: -g if getattr(p, "nonnegative", False) else g, Phantom()
        ),
        "of fixed points": spoiled(
            lambda g, p, t: -g if SOMEWHERE["an iteration"](p, t) else g, Phantom()
        ),
    },
    "samples": {
        "sum": spoiled(lambda g, p, t: g * len(p.observations), Phantom()),
        "other units": spoiled(lambda g, p, t: g * g.norm(), Phantom()),
        "batches as if of one size": instead(mean_of_batches, Phantom()),
        "with many samples": spoiled(
            lambda g, p, t: g * (1 + 1e-4 * (p.code_shape[0] > 64)), Polished()
        ),
    },
    "consistency": {
        "without the codes": wrong(Alternating(), consistent_for=None),
        "a long window": wrong(Truncated(window=300), consistent_for=None),
    },
    "repeatable": {
        "a loss by its address": from_file("(1 + id(problem.loss) * callable(problem.loss))"),
        "by chance": spoiled(lambda g, p, t: g * np.random.default_rng().uniform(0.5, 1)),
        "results kept without their start": instead(kept_by_problem),
        "one buffer": spoiled(one_buffer),
    },
    "impossible_depth": {
        "negative depth run": instead(lambda p, a, t: Backprop().estimate(p, a, max(int(t), 0)))
    },
    "single_precision": {
        "wrong": spoiled(lambda g, p, t: g * (1.0 if g.dtype == torch.float64 else 1.1)),
        "wrong codes": instead(
            lambda p, a, t: replace(
                Backprop().estimate(p, a, t),
                codes=a.run(p, t + (p.theta.dtype == torch.float32)).codes.detach(),
            )
        ),
    },
    "approach": {
        "halved terms": neumann(lambda k: 0.5),
        "alternating signs": neumann(lambda k: (-1.0) ** k),
        "a term that is too large": neumann(lambda k: 1.0 + (k == 2)),
        "one halved term": neumann(lambda k: 0.5 if k == 3 else 1.0),
        "an end that no option moves": neumann(lambda k: float(k < 5)),
        "too few terms": neumann(lambda k: 1.0, approaches={"implicit": {"terms": 9}}),
        "another gradient": neumann(lambda k: 1.0, approaches={"direct": {"terms": 1000}}),
        "an unknown gradient": neumann(lambda k: 1.0, approaches={"best": {"terms": 1000}}),
        "an unknown option": neumann(lambda k: 1.0, approaches={"implicit": {"steps": 1000}}),
        "an exact claim": wrong(approaches={"implicit": {"terms": 1000}}),
    },
    "direct_part": {
        "forgotten": without_direct_part(FixedPointAdjoint(terms=3)),
        "halved": spoiled(
            lambda g, p, t: g - 0.5 * direct_gradients(p, pudle.Ista().run(p, t).codes)[0],
            FixedPointAdjoint(terms=3),
        ),
    },
    "description": {
        "not frozen": Thawed(),
        "options that are lost": OwnDepth(),
        "unknown claim": wrong(computes="exact"),
        "no name": wrong(name="my method"),
    },
}
#: Words that the reasons must contain, where a mistake is named.
EXPLAINED = {
    "halved terms": "half of the path through the codes",
    "alternating signs": "a series with alternating signs",
    "a term that is too large": "term 3 of the Neumann series (the Jacobian of a layer to the power"
    " 2) has the weight 2 in place of 1",
    "one halved term": "term 4 of the Neumann series (the Jacobian of a layer to the power 3) has"
    " the weight 0.5 in place of 1",
    "an end that no option moves": "the Neumann series ends after 5 terms",
    "another gradient": "instead of the direct gradient",
    "an unknown gradient": "name one of exact, unrolled, implicit, direct",
    "an unknown option": "give values of its fields",
    "an exact claim": "only what is approximate tends to another gradient",
    "forgotten": "the direct part of the gradient is forgotten",
    "halved": "half of the direct part",
    "options that are lost": "has the option factor and is no dataclass",
    "crash": "raised IndexError",
    "of inference mode": "inference_mode keeps no graph",
    "views of memory": "raised RuntimeError",
    "negated": "negated",
    "scaled by n": "a sum over the",
    "transposed square": "transposed",
    "code path dropped": "the direct part alone",
    "float32 inside": "is there float32",
    "implicit for unrolled": "the implicit",
    "implicit at an earlier layer": "at the last but one iterate",
    "the last but one iterate": "at the last but one iterate",
    "l2 forgotten": "l2_penalty is forgotten",
    "l2 forgotten in the systems": "l2_penalty is forgotten",
    "unit norm": "unit norm",
    "on the sphere": "unit norm",
    "start ignored": "initial, is ignored",
    "implicit negated": "the correction of the direct part with the wrong sign",
    "window off by one": "the derivative through the last 6 layers alone",
    "clamped, admitted": "layers_differentiated=20 at depth",
    "at most 400 layers": "of 401 layers",
    "refusal of everything": "refuses every problem",
}
