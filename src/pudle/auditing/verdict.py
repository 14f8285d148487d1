"""The verdict on a gradient: what it is compared with, where a gap may come from, and which
mistake explains it.
"""

import contextlib
import copy
import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import InvalidArgument, UnsupportedProblem, first_line
from ..streams import generator
from ..text import number
from .differences import ALL, BEYOND, EPS, RESOLVED, directions, slope, slopes
from .distances import EXACT, ROUNDED, distance, norm
from .equation import Equation
from .layer import Array, Layer, Piece, only_single, reals
from .linearity import Finding, Nonlinearity, nonlinearities
from .mistakes import (
    MULTIPLE,
    SERIES,
    SINGLE,
    SINGLE_PATH,
    Mistakes,
    most_likely,
    of_equation,
    of_jacobian,
    scaled,
    without_equation,
)

#: Verdicts from the worst.
VERDICTS = ("wrong", "undecided", "inexact", "right")
#: Entries of inputs and outputs up to which their Jacobian is looked at for a mistake.
MOST = 256
MORE_NAMES = f"more mistakes have a name where inputs and outputs have at most {MOST} entries"
#: A backward solve to the usual tolerance loses it times the condition number, and at most this
#: share of a gradient.
AT_MOST = 0.05
#: How a tighter option differs: a number of steps, a tolerance.
MORE_STEPS, TIGHTER = 10, 1e-3
#: Of a right gradient whose own derivative is not.
NO_SECOND = (
    "no second derivative: differentiated again, the gradient loses a part without an error; write"
    " the backward pass in what torch differentiates, or mark it with once_differentiable"
)
#: Share of the usual steps at which differences are taken once more before they are believed.
SMALL = 2.0**-24
#: Step of a difference quotient that mostly settles whether a second derivative is right.
CLOSE = 2.0**-10
#: Entries that are named one by one.
FEW = 5
#: Calls in which a random layer returns the same value at most by rare chance.
CALLS = 20
#: How far away the layer is called to see whether it remembers a call.
ELSEWHERE = 0.1


class Part(NamedTuple):
    """The verdict on the gradient in one input or parameter.

    Attributes
    ----------
    name, verdict : str
    error : float
        See `Audit`.
    text : str
        Why, as the rest of a sentence.
    mistakes : tuple of str
    truth : Truth or None
        What it is compared with.
    """

    name: str
    verdict: str
    error: float
    text: str
    mistakes: tuple[str, ...] = ()
    truth: "Truth | None" = None

    def rank(self) -> tuple[int, float]:
        return VERDICTS.index(self.verdict), -self.error


@dataclass(frozen=True, eq=False)
class Truth:
    """What a gradient in a part is compared with.

    Attributes
    ----------
    expected : ndarray
        The gradient, or its derivatives along directions.
    doubt : ndarray
        How far from it a right gradient may be, in each entry.
    size : float
        What errors are relative to.
    what : str
        What it is called.
    known : float
        How far it is off at most itself, relative to the size.
    rows : ndarray or None
        The directions.
    hidden, poor : str
        That not all that counts was seen, empty if it was, and why no more is known.
    interval : float
        How much the error of the layer's solution changes.
    explained : float
        Error up to which a solver that stops early may be to blame.
    early : str
        How far the layer's solution is off.
    """

    expected: Array
    doubt: Array
    size: float
    what: str
    known: float
    rows: Array | None = None
    hidden: str = ""
    poor: str = ""
    interval: float = 0.0
    explained: float = 0.0
    early: str = ""

    def seen(self, gradient: Array) -> Array:
        """Return what is compared of a gradient."""
        return gradient if self.rows is None else self.rows @ gradient

    def agrees(self, gradient: Array) -> bool:
        """Return whether a gradient is right if this is the truth."""
        return bool((np.abs(self.seen(gradient) - self.expected) <= self.doubt).all())


@dataclass(frozen=True, eq=False)
class Judge:
    """Judges a layer's gradients: by the implicit ones if an equation is given, ``residual`` or
    ``step`` and the function, else by differences. All is in units of the parts.
    """

    layer: Layer
    equation: tuple[str, Callable[..., object]] | None
    tighten: Callable[..., object] | str | None

    def runs(self) -> bool:
        """Return whether the layer takes its inputs in this precision. The first call of all is
        elsewhere: a layer may keep what it finds in its first.
        """
        self.elsewhere  # noqa: B018
        with contextlib.suppress(RuntimeError, TypeError, ValueError):
            return bool(self.outputs)
        return False

    def __call__(self) -> list[Part]:
        """Return the verdict on each part."""
        layer, theta = self.layer, self.layer.theta
        if not all(np.isfinite(each).all() for each in self.outputs):
            raise InvalidArgument("the layer returns NaN or infinite entries: audit other inputs")
        try:
            layer.gradient(self.elsewhere)
            calls = [layer.gradient(theta) for _ in range(3)]
            calls.append(layer.gradient(theta, between=self.elsewhere))
        except RuntimeError as error:
            raise InvalidArgument(f"the layer's gradient fails: {first_line(error)}") from error
        apart = [layer.apart(each, calls[0]) for each in calls]
        findings: list[Finding | None] = [None] * len(layer.parts)
        if max(apart) <= RESOLVED:
            findings = nonlinearities(layer, calls[0], self.precise)
        found = [
            Question(self, part, calls[0], finding).verdict()
            for part, finding in zip(layer.parts, findings, strict=True)
        ]
        # Such as with a clock, or a state that goes on, not from what an earlier call has left.
        same = max(map(distance, self.returned(), self.outputs)) <= self.rounding
        loud = max(apart) > RESOLVED or "wrong" in {each.verdict for each in found}
        if not same and (loud or 2 * self.values > CALLS):
            text = (
                "cannot be told: calls with the same inputs return different outputs; eval(), or a"
                " state that is the same in each call, would tell"
            )
            return [each._replace(verdict="undecided", text=text, mistakes=()) for each in found]
        if layer.apart(calls[2], calls[1]) > RESOLVED:
            return self.unsteady(found, calls)
        if max(apart) > RESOLVED:
            named = "a stale solution, that of another call: keep it in ctx, not on the layer"
            for part in layer.parts:
                other = Question(self, part, calls[np.argmax(apart)]).verdict()
                worse, better = sorted((found[part.index], other), key=Part.rank)
                if worse.verdict != "right":
                    verdict = "wrong" if better.verdict == "right" else worse.verdict
                    found[part.index] = worse._replace(verdict=verdict, mistakes=(named,))
        elif {each.verdict for each in found} == {"right"} and self.precise and self.loses_a_part():
            return [each._replace(mistakes=(NO_SECOND,)) for each in found]
        return found

    def told(self, condition: float) -> str:
        """Return why no more is known where the values have so many times the noise of rounding."""
        remedy = "step=, residual= or inputs in other units" if self.precise else "float64"
        inputs = f"the inputs have the condition {number(condition)}"
        return f"rounding hides it, as {inputs}; {remedy} would tell"

    def unsteady(self, found: list[Part], calls: list[Array]) -> list[Part]:
        """Return the verdicts where two calls differ."""
        layer = self.layer
        verdict = "wrong" if self.values == 1 else "undecided"
        again = layer.apart(calls[2], calls[1])
        named = f"not deterministic: two calls differ by {number(again)} of the gradient"
        if layer.apart(calls[2] - calls[1], calls[1] - calls[0]) < ROUNDED:
            named = "accumulated: each call adds to the gradient of the calls before"
        return [
            each if each.verdict == "right" else each._replace(verdict=verdict, mistakes=(named,))
            for each in found
        ]

    @cached_property
    def values(self) -> int:
        """How many different values as many calls with the same inputs return."""
        return len({self.layer.value(self.layer.theta) for _ in range(CALLS)})

    def loses_a_part(self) -> bool:
        """Return whether the gradient can be differentiated again, but not to what it changes by
        along a direction.
        """
        layer, along = self.layer, self.drawn("second derivative")

        def first(length: float) -> float:
            return float(layer.gradient(layer.theta + length * along) @ along.numpy(force=True))

        with contextlib.suppress(Exception):
            second = layer.second_derivative(along)
            quotient = (first(CLOSE) - first(-CLOSE)) / (2 * CLOSE)
            if abs(second - quotient) > RESOLVED * abs(second):
                line = slope(first, 1.0, EPS * abs(first(0.0)), EPS)
                doubt = BEYOND * line.uncertainty + RESOLVED * abs(second)
                return line.resolved and abs(second - line.value) > doubt
        # It is right, or says so itself.
        return False

    def returned(self) -> list[Array]:
        """Return what the layer returns."""
        made = reals(self.layer.outputs(self.layer.theta))
        return [each.double().numpy(force=True) for each in made]

    @cached_property
    def outputs(self) -> list[Array]:
        """What the layer returns first."""
        return self.returned()

    @cached_property
    def precise(self) -> bool:
        """True if the layer computes in float64."""
        double = all(part.tensor.dtype == torch.float64 for part in self.layer.parts)
        return double and not only_single(self.outputs)

    @property
    def precision(self) -> float:
        """Rounding of the layer's numbers, relative to them."""
        return EPS if self.precise else float(torch.finfo(torch.float32).eps)

    @property
    def rounding(self) -> float:
        """Share of a gradient that the layer's precision may lose."""
        return EXACT if self.precise else ROUNDED

    @cached_property
    def elsewhere(self) -> Tensor:
        """A theta a little away, if the layer has a value there."""
        with contextlib.suppress(Exception):
            moved = self.layer.theta + ELSEWHERE * self.drawn("elsewhere")
            self.layer.outputs(moved)
            return moved
        return self.layer.theta

    def drawn(self, purpose: str) -> Tensor:
        """Return a random direction."""
        theta = self.layer.theta
        drawn = generator(self.layer.seed, f"audit {purpose}").standard_normal(len(theta))
        return torch.as_tensor(drawn).to(theta)

    @cached_property
    def solves(self) -> Equation | None:
        """The equation that is given, with the implicit gradient, or UnsupportedProblem."""
        along = self.drawn("of an equation")
        return Equation(self.layer, *self.equation, along) if self.equation else None


@dataclass(frozen=True, eq=False)
class Question:
    """Whether a gradient is right in one part: ``right`` if it agrees with the truth; ``inexact``
    with what the layer computes in place of its solution; ``wrong`` if the gap is a common
    mistake's that no solver makes by stopping early, if tightening the solver leaves it, or if it
    is more than the solver can explain; else ``undecided``.
    """

    judge: Judge
    part: Piece
    gradient: Array
    nonlinear: Finding | None = None

    def verdict(self) -> Part:
        """Return the first verdict that a rule gives, or ``wrong`` if the gradient is not linear in
        the one that comes in.
        """
        verdict = self.unknown() or self.compared() or self.solver()
        return self.refused(verdict, self.nonlinear) if self.nonlinear else verdict

    def refused(self, verdict: Part, nonlinear: Finding) -> Part:
        """Return the verdict ``wrong`` in place of one that the usual incoming gradient leads to,
        or add the name to it.
        """
        mistakes = tuple(dict.fromkeys([nonlinear.kind.value, *verdict.mistakes]))[:2]
        if verdict.verdict == "wrong":
            return verdict._replace(mistakes=mistakes)
        if nonlinear.size == 1:
            where = "for a sum of two gradients that come in"
        else:
            times = f"{nonlinear.size:.0e}".replace("e+0", "e").replace("e-0", "e-")
            where = f"where the gradient that comes in is {times} times as large"
        text = f"{verdict.text}; but it is off by {number(nonlinear.error)} of its norm {where}"
        return verdict._replace(
            verdict="wrong", error=nonlinear.error, text=text, mistakes=mistakes[:1]
        )

    def ruled(self, verdict: str, *reasons: str, mistakes: tuple[str, ...] = ()) -> Part:
        """Return a verdict with its reasons."""
        if verdict == "wrong" and not mistakes and self.large:
            reasons = *reasons, MORE_NAMES
        text = "; ".join(filter(None, reasons))
        return Part(self.part.name, verdict, self.error, text, mistakes, self.truth)

    # --- the rules

    def unknown(self) -> Part | None:
        """Nothing can be compared."""
        name, mine = self.part.name, self.mine
        if not mine.size:
            return Part(name, "undecided", np.nan, "has no entries")
        bad = (~np.isfinite(mine)).sum()
        says = f"has {bad} entries that are NaN or infinite" * bool(bad)
        try:
            hidden = self.truth.hidden if bad or not self.truth.expected.size else ""
        except UnsupportedProblem as refused:
            hidden = f"cannot be told: {first_line(refused).partition('; use')[0]}"
        if bad and not hidden:
            return Part(name, "wrong", np.inf, says)
        # Where no derivative exists nothing else than NaN can be returned.
        why = "; ".join(filter(None, [says, hidden]))
        return Part(name, "undecided", np.nan, why) if why else None

    def compared(self) -> Part | None:
        """The gradient is the truth, or what the layer computes in its place, or one of single
        precision, or that of a mistake which no solver makes.
        """
        truth, mine, error, off = self.truth, self.mine, self.error, self.off
        if truth.agrees(mine):
            if truth.hidden:
                return self.ruled("undecided", truth.hidden)
            if error + truth.known > RESOLVED:
                return self.ruled("undecided", off, f"no more can be told: {truth.poor}")
            return self.ruled("right", f"agrees to {number(error)} with {truth.what}")
        if self.contradicted():
            return self.ruled("undecided", off, f"smaller steps contradict that: {truth.poor}")
        for computed in self.computed():
            if computed.agrees(mine):
                return self.ruled("inexact", off, f"it agrees with {computed.what}", truth.early)
        if error < ROUNDED:
            if self.judge.precise and only_single([mine]):
                return self.ruled("wrong", off, mistakes=(SINGLE,))
            return self.ruled("inexact", off, SINGLE_PATH)
        strong, mistakes = self.likely
        if strong or (mistakes and error > truth.explained):
            return self.ruled("wrong", off, mistakes=mistakes)
        return None

    def contradicted(self) -> bool:
        """Return whether differences over far smaller steps contradict the truth, where the
        gradient does so most: the layer may compute in single precision inside.
        """
        truth, judge = self.truth, self.judge
        if truth.rows is None:
            return False
        worst = int(np.abs(truth.seen(self.mine) - truth.expected).argmax())
        (line,), _ = slopes(judge.layer, self.part, truth.rows[[worst]], judge.precision, SMALL)
        apart = abs(line.value - float(truth.expected[worst]))
        return apart > float(truth.doubt[worst]) + BEYOND * line.uncertainty

    def solver(self) -> Part:
        """A solver that stops early explains the gap, as a tighter one shows, or nothing does."""
        judge, truth, error, off = self.judge, self.truth, self.error, self.off
        _, mistakes = self.likely
        if judge.tighten is not None:
            layer = replace(judge.layer, call=tightened(judge.layer.call, judge.tighten))
            tight = replace(judge, layer=layer, tighten=None)
            moved, after = max(map(distance, tight.outputs, judge.outputs)), error
            if moved > EXACT:
                after = Question(tight, self.part, layer.gradient(layer.theta)).verdict().error
            says = f"tightened, the layer moves by {number(moved)} and the error is {number(after)}"
            if after <= error / 3:
                return self.ruled("inexact", off, says)
            if moved <= error / BEYOND:
                return self.ruled("wrong", off, says, mistakes=mistakes)
            return self.ruled("undecided", off, says)
        # It may be right: other hints would mislead.
        series = tuple(each for each in mistakes if each.startswith(SERIES))
        if error <= BEYOND * truth.interval:
            return self.ruled("inexact", off, truth.early, mistakes=series)
        if error <= truth.explained:
            return self.ruled("undecided", off, self.solvers_part(), mistakes=series)
        return self.ruled("wrong", off, mistakes=mistakes)

    def solvers_part(self) -> str:
        """Return what would have to hold for the gradient to be right, and what would tell."""
        option = f"tighten={option_of(self.judge.layer.call)}"
        others = "" if self.judge.equation else ", step= or residual="
        return (
            f"wrong unless the layer runs a solver that ends some {number(self.error)} of its"
            f" solution's norm away from it: {option}{others} would tell"
        )

    # --- the claim, and the truths that it is compared with

    @cached_property
    def mine(self) -> Array:
        """The gradient in the part."""
        return self.gradient[self.part.span]

    @cached_property
    def error(self) -> float:
        """Its distance from the truth, of which something was seen."""
        truth = self.truth
        return distance(truth.seen(self.mine), truth.expected, truth.size)

    @property
    def off(self) -> str:
        return f"is off by {number(self.error)} of its norm from {self.truth.what}"

    @cached_property
    def truth(self) -> Truth:
        """What the gradient should be."""
        equation = self.judge.solves
        return self.by_theorem(equation) if equation else self.by_differences()

    def computed(self) -> Iterator[Truth]:
        """Yield what is right for what the layer computes, if that is not its solution."""
        if equation := self.judge.solves:
            at_codes = equation.at_codes[self.part.span]
            yield replace(self.truth, expected=at_codes, what="that at the returned solution")
            if not equation.solved:
                differences = self.by_differences()
                if not (differences.hidden or differences.agrees(self.truth.expected)):
                    yield differences

    def by_differences(self) -> Truth:
        """Return what differences of the layer tell."""
        judge, part, layer = self.judge, self.part, self.judge.layer
        rows = directions(layer, part)
        precision = judge.precision
        lines, noise = slopes(layer, part, rows, precision)
        loss = abs(layer.value(layer.theta))
        values = np.array([each.value for each in lines])
        doubt = np.array([each.uncertainty for each in lines])
        # An input that hardly counts is known as well as the loss.
        counts = doubt < np.abs(values)
        size = max(norm(values[counts]), EXACT * loss)
        seen = [each.resolved for each in lines] & (doubt <= RESOLVED * size)
        left, many = np.flatnonzero(~seen), len(self.mine) > ALL
        text = " (symmetric changes alone)" * part.symmetric
        if many:
            text += f" in {len(rows)} directions, {len(left)} of them left out for kinks or noise"
        poor = judge.told(noise / (precision * (loss or 1.0)))
        if not counts.any():
            poor = "no slope was seen beyond noise and jumps; other inputs would tell"
        if any(lines[each].kink for each in left):
            poor = "a kink is too near; other inputs would tell"
        places = ""
        if part.tensor.ndim and not many:
            where = np.argwhere(~seen.reshape(part.tensor.shape)).tolist()
            places = f" at {', '.join(map(str, where[:FEW]))}{' ...' * (len(where) > FEW)}"
        known = norm(doubt[seen]) / (size or 1.0)
        return Truth(
            values[seen],
            # What a backward pass loses, it loses of the largest entries.
            BEYOND * doubt[seen] + judge.rounding * norm(np.fmax(np.abs(values), doubt)),
            size,
            f"finite differences of the layer, exact to {number(known)}{text}",
            known,
            rows[seen],
            f"cannot be told{places}: {poor}" * (len(left) > many * len(rows) / 2),
            poor,
            explained=np.inf if layer.has_loop else 0.0,
        )

    def by_theorem(self, equation: Equation) -> Truth:
        """Return what the implicit function theorem tells."""
        expected, returned = (each[self.part.span] for each in (equation.exact, equation.at_codes))
        # An input that hardly counts is known as well as all of the gradient.
        size = max(norm(expected), ROUNDED * norm(equation.exact)) or 1.0
        moved, condition = equation.moved, equation.condition
        known = max(2 * BEYOND * EPS, norm(equation.bound[self.part.span]) / size)
        interval = max(moved, distance(returned, expected, size))
        explained = BEYOND * max(interval, condition * moved)
        if equation.solved:
            explained = min(AT_MOST, RESOLVED * condition)
        return Truth(
            expected,
            np.full(len(expected), (BEYOND * known + self.judge.rounding) * size),
            size,
            f"the implicit gradient, exact to {number(known)}",
            known,
            poor=self.judge.told(condition),
            interval=interval,
            explained=explained,
            early=f"the layer's solution is off by {number(moved)}",
        )

    # --- the mistakes

    @cached_property
    def likely(self) -> tuple[bool, tuple[str, ...]]:
        """Whether there is a mistake that no solver makes, and the likeliest ones, at most two."""
        judge, truth, span = self.judge, self.truth, self.part.span
        seen = truth.seen(self.mine)
        slack = max(RESOLVED * (self.mine.size > 2), 3 * truth.interval)
        strong, mistakes = most_likely(seen, truth.expected, self.common(seen), slack)
        if strong or self.large:
            return strong, mistakes
        found, due = (each[:, span] for each in judge.layer.jacobians)
        strong, more = most_likely(found, due, self.by_jacobian(found, due), slack)
        # With the zeros of a Jacobian a factor is met more easily.
        more = tuple(each for each in more if not each.endswith(MULTIPLE))
        return strong, more if strong else (*mistakes, *more)[:2]

    @property
    def large(self) -> bool:
        """True if the Jacobian of inputs and outputs is too large to be looked at."""
        return max(len(self.gradient), sum(each.size for each in self.judge.outputs)) > MOST

    def common(self, seen: Array) -> Mistakes:
        """Yield what common mistakes make of the gradient in the part."""
        judge, truth, layer, span = self.judge, self.truth, self.judge.layer, self.part.span
        if self.nonlinear:
            yield self.nonlinear.kind.value, seen
        else:
            twice = replace(layer, loss=lambda made, *inputs: 2 * layer.lost(made, inputs))
            doubled = twice.gradient(layer.theta)[span]
            if self.mine.any() and distance(doubled, self.mine) < ROUNDED:
                yield Nonlinearity.NOT_MULTIPLIED.value, seen
            elif distance(doubled, 2 * self.mine) > RESOLVED:
                yield Nonlinearity.NOT_LINEAR.value, seen
        if truth.rows is not None and len(seen) > 1:
            # The entry whose change explains most of the gap.
            columns: Array = truth.rows / np.maximum(np.linalg.norm(truth.rows, axis=0), EXACT)
            aligned = (seen - truth.expected) @ columns
            entry = np.abs(aligned).argmax()
            explained = truth.expected + aligned[entry] * columns.T[entry]
            yield f"wrong in entry {entry} alone", explained
        yield from without_equation(self.part, judge.outputs, seen, truth.expected)
        if equation := judge.solves:
            for name, whole in of_equation(equation, self.gradient, judge.elsewhere):
                yield name, whole[span]

    def by_jacobian(self, mine: Array, expected: Array) -> Mistakes:
        """Yield what common mistakes make of the Jacobian in the part."""
        layer = self.judge.layer
        yield from of_jacobian(mine, expected)
        samples = (*self.part.tensor.shape, 1)[0]
        if samples > 1 and len(mine) % samples == 0:
            # The derivative of each sample's outputs in its own inputs.
            blocks = expected.reshape(samples, len(mine) // samples, samples, -1)
            mean = np.einsum("iaib->ab", blocks) / samples
            yield "the derivative is averaged over the batch", np.kron(np.eye(samples), mean)
        for other in layer.parts:
            exchanged = self.part.unit / other.unit * layer.jacobians[1][:, other.span]
            yield f"exchanged with the gradient in {other.name}", exchanged
        if equation := self.judge.solves:
            system = equation.problem.linearized(equation.codes).matrix.numpy(force=True)
            what = "row of the equation's derivative in the input"
            for name, each in scaled(system @ mine, system @ expected, what):
                yield name, np.linalg.solve(system, each)


def option_of(layer: Callable[..., object]) -> str:
    """Return the name of the attribute or the keyword of a layer that most likely makes its solver
    tighter, in quotes; empty if there is none.
    """
    options = dict(getattr(layer, "__dict__", {}))
    with contextlib.suppress(TypeError, ValueError):
        parameters = inspect.signature(layer).parameters
        options |= {name: each.default for name, each in parameters.items()}
    named = [repr(name) for name, each in options.items() if type(each) in (int, float)]
    return next(filter(re.compile("tol|eps|iter|steps|depth").search, named), "")


def tightened(
    layer: Callable[..., object], tighten: Callable[..., object] | str
) -> Callable[..., object]:
    """Return a layer with a tighter option, or the one that was given."""
    if callable(tighten):
        return tighten
    value: object = getattr(layer, tighten, None)
    if keyword := value is None:
        value = getattr(inspect.signature(layer).parameters.get(tighten), "default", None)
    if not isinstance(value, int | float):
        raise InvalidArgument(
            f"tighten={tighten!r} is no number that the layer has: name an attribute or a keyword"
            " with a default, or give the tighter layer"
        )
    value *= MORE_STEPS if isinstance(value, int) else TIGHTER
    if keyword:
        return partial(layer, **{tighten: value})
    changed = copy.copy(layer)
    setattr(changed, tighten, value)
    return changed
