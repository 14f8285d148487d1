"""The verdict on a gradient: what it is compared with, where a gap may come from, and which
mistake explains it.
"""

import contextlib
import copy
import inspect
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import InvalidArgument, first_line
from ..streams import generator
from ..text import count, number
from .audit_layer import BEYOND, LADDER, Layer, Piece, Slope, noise_of, only_single, reals, slope
from .audit_mistakes import (
    SERIES,
    SINGLE,
    implicit_of,
    most_likely,
    of_equation,
    of_jacobian,
    scaled,
    without_equation,
)
from .explanations import EXACT, MULTIPLE, ROUNDED, SINGLE_PATH, Array, Mistakes, distance, norm

#: Verdicts from the worst.
VERDICTS = ("wrong", "undecided", "inexact", "right")
#: Entries up to which all coordinates are looked at, and how many of more.
ALL, SOME = 64, 4
#: Entries of inputs and outputs up to which their Jacobian is looked at for a mistake.
MOST = 256
#: Differences that tell no more than this share of a gradient decide nothing, and two calls that
#: differ by more are not one function. A backward solve to this usual tolerance loses it times the
#: condition number, and at most the second share.
RESOLVED, AT_MOST = 1e-3, 0.05
#: How a tighter option differs: a number of steps, a tolerance.
MORE_STEPS, TIGHTER = 10, 1e-3
#: Of a right gradient whose own derivative is not.
NO_SECOND = (
    "no second derivative: differentiated again, the gradient loses a part without an error; write"
    " the backward pass in what torch differentiates, or mark it with once_differentiable"
)
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
    doubt : ndarray or float
        How far from it a right gradient may be, in each entry.
    size : float
        What errors are relative to.
    what : str
        What it is called.
    line : Slope
        Differences along one direction.
    claimed : float
        The derivative along it as the layer says.
    rows : ndarray or None
        The directions.
    hidden : str
        What hides it; empty if it can be told.
    interval : float
        How much the error of the layer's solution changes.
    explained : float
        Error up to which a solver that stops early may be to blame.
    early, remedy : str
        How far the layer's solution is off, and what would decide.
    """

    expected: Array
    doubt: Any
    size: float
    what: str
    line: Slope
    claimed: float
    rows: Array | None = None
    hidden: str = ""
    interval: float = 0.0
    explained: float = 0.0
    early: str = ""
    remedy: str = ""

    def seen(self, gradient: Array) -> Array:
        """Return what is compared of a gradient."""
        return gradient if self.rows is None else self.rows @ gradient

    def error(self, gradient: Array) -> float:
        """Return the distance of a gradient."""
        return distance(self.seen(gradient), self.expected, self.size)

    def agrees(self, gradient: Array) -> bool:
        """Return whether a gradient is right if this is the truth."""
        return bool((np.abs(self.seen(gradient) - self.expected) <= self.doubt).all())


@dataclass(frozen=True, eq=False)
class Judge:
    """Judges a layer's gradients: by the implicit ones if an equation is given, ``residual`` or
    ``step`` and the function, else by differences. All is in units of the parts.
    """

    layer: Layer
    equation: tuple[str, Callable[..., Any]] | None
    directions: int
    tighten: Callable[..., Any] | str | None

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
        found = [self.judged(part, calls[0]) for part in layer.parts]
        apart = [layer.apart(each, calls[0]) for each in calls]
        if (again := layer.apart(calls[2], calls[1])) > RESOLVED:
            values = {layer.value(theta) for _ in range(CALLS)}
            verdict = "wrong" if len(values) == 1 else "undecided"
            named = f"not deterministic: two calls differ by {number(again)} of the gradient"
            if layer.apart(calls[2] - calls[1], calls[1] - calls[0]) < ROUNDED:
                named = "accumulated: each call adds to the gradient of the calls before"
            return [
                each
                if each.verdict == "right"
                else each._replace(verdict=verdict, mistakes=(named,))
                for each in found
            ]
        if max(apart) > RESOLVED:
            named = "a stale solution, that of another call: keep it in ctx, not on the layer"
            for part in layer.parts:
                other = self.judged(part, calls[np.argmax(apart)])
                worse, better = sorted((found[part.index], other), key=Part.rank)
                if worse.verdict != "right":
                    verdict = "wrong" if better.verdict == "right" else worse.verdict
                    found[part.index] = worse._replace(verdict=verdict, mistakes=(named,))
        elif {each.verdict for each in found} == {"right"} and self.precise and self.loses_a_part():
            return [each._replace(mistakes=(NO_SECOND,)) for each in found]
        return found

    def loses_a_part(self) -> bool:
        """Return whether the gradient can be differentiated again, but not to what it changes by
        along a direction.
        """
        layer, along = self.layer, self.drawn("second derivative")

        def first(length: float) -> float:
            return layer.gradient(layer.theta + length * along) @ along.numpy(force=True)

        with contextlib.suppress(Exception):
            line = slope(first, np.finfo(float).eps * abs(first(0.0)), LADDER[3:6])
            second = layer.second_derivative(along)
            doubt = BEYOND * line.uncertainty + RESOLVED * max(abs(second), abs(line.value))
            return abs(second - line.value) > doubt and not line.kink
        # It says so itself.
        return False

    # --- what is compared

    @cached_property
    def outputs(self) -> list[Array]:
        """What the layer returns."""
        made = reals(self.layer.outputs(self.layer.theta))
        return [each.double().numpy(force=True) for each in made]

    @cached_property
    def precise(self) -> bool:
        """True if the layer computes in float64."""
        double = all(part.tensor.dtype == torch.float64 for part in self.layer.parts)
        return double and not only_single(self.outputs)

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

    def slopes(self, part: Piece, rows: Array) -> list[Slope]:
        """Return the derivatives along directions in a part."""
        refused = list[Exception]()

        def value(row: Array, length: float) -> float:
            moved = self.layer.theta.clone()
            moved[part.span] += length * torch.as_tensor(row).to(moved)
            try:
                return self.layer.value(moved)
            except Exception as error:  # noqa: BLE001
                refused.append(error)
                return math.nan

        precision = torch.finfo(torch.float64 if self.precise else torch.float32).eps
        noise = noise_of(partial(value, rows.sum(0) / len(rows) ** 0.5), precision)
        found = [slope(partial(value, row), noise) for row in rows]
        if refused and not any(math.isfinite(each.uncertainty) for each in found):
            raise InvalidArgument(
                f"the layer raises {type(refused[0]).__name__} where {part.name} is changed"
                f" ({first_line(refused[0])}): reparametrize it, such as with a softmax inside, or"
                " choose other inputs with wrt"
            )
        return found

    def along(self, part: Piece, mine: Array) -> Array:
        """Return the directions in which a part is varied, one a row."""
        size = len(mine)
        if size <= ALL:
            return np.eye(size)
        random = generator(self.layer.seed, f"audit directions {part.index}")
        single = [*random.choice(size, SOME - 1, replace=False), np.abs(mine).argmax()]
        rows = random.standard_normal((self.directions + SOME, size))
        rows[self.directions :] = np.equal.outer(single, np.arange(size))
        return rows

    @cached_property
    def implicit(self) -> Any:
        """The implicit gradient; why there is none; None where no equation is given."""
        return self.equation and implicit_of(
            self.layer, *self.equation, self.drawn("of an equation")
        )

    # --- the verdict

    def judged(self, part: Piece, gradient: Array) -> Part:
        """Return the verdict on one part: ``right`` if the gradient agrees with the truth;
        ``inexact`` with what the layer computes in place of its solution; ``wrong`` if the gap is
        a common mistake's that no solver makes by stopping early, if tightening the solver leaves
        it, or if it is more than the solver can explain; else ``undecided``.
        """
        mine = gradient[part.span]
        if bad := (~np.isfinite(mine)).sum():
            return Part(part.name, "wrong", np.inf, f"has {bad} entries that are NaN or infinite")
        if not mine.size or isinstance(self.implicit, str):
            why = f"has no truth: {self.implicit}" if mine.size else "has no entries"
            return Part(part.name, "undecided", np.nan, why)
        truths = self.truths(part, gradient)
        truth = next(truths)
        error = np.nan if truth.hidden else truth.error(mine)
        off = f"is off by {number(error)} of its norm from {truth.what}"

        def ruled(verdict: str, *reasons: str, mistakes: tuple[str, ...] = ()) -> Part:
            text = "; ".join(filter(None, reasons))
            return Part(part.name, verdict, error, text, mistakes, truth)

        if truth.hidden:
            return ruled("undecided", truth.hidden)
        if truth.agrees(mine):
            if error > BEYOND * RESOLVED:
                return ruled("undecided", off, "so no more can be told")
            return ruled("right", f"agrees to {number(error)} with {truth.what}")
        for computed in truths:
            if computed.agrees(mine):
                return ruled("inexact", off, f"it agrees with {computed.what}", truth.early)
        if error < ROUNDED:
            if self.precise and only_single([mine]):
                return ruled("wrong", off, mistakes=(SINGLE,))
            return ruled("inexact", off, SINGLE_PATH)
        slack = max(RESOLVED * (mine.size > 2), 3 * truth.interval)
        common = self.common_mistakes(part, gradient, truth)
        strong, mistakes = most_likely(truth.seen(mine), truth.expected, common, slack)
        if not strong and max(len(gradient), sum(each.size for each in self.outputs)) <= MOST:
            found, due = (each[:, part.span] for each in self.layer.jacobians)
            strong, more = most_likely(found, due, self.by_jacobian(part, found, due), slack)
            # With the zeros of a Jacobian a factor is met more easily.
            more = tuple(each for each in more if not each.endswith(MULTIPLE))
            mistakes = more if strong else (*mistakes, *more)[:2]
        if strong or (mistakes and error > truth.explained):
            return ruled("wrong", off, mistakes=mistakes)
        # A solver that stops early may be right: other hints would mislead.
        series = tuple(each for each in mistakes if each.startswith(SERIES))
        if self.tighten is not None:
            layer = replace(self.layer, call=tightened(self.layer.call, self.tighten))
            tight = replace(self, layer=layer, tighten=None)
            moved = max(map(distance, tight.outputs, self.outputs))
            after = (
                tight.judged(part, layer.gradient(layer.theta)).error if moved > EXACT else error
            )
            says = f"tightened, the layer moves by {number(moved)} and the error is {number(after)}"
            if after <= error / 3:
                return ruled("inexact", off, says)
            if moved <= error / BEYOND:
                return ruled("wrong", off, says, mistakes=mistakes)
            return ruled("undecided", off, says)
        if error <= BEYOND * truth.interval:
            return ruled("inexact", off, truth.early, mistakes=series)
        if error <= truth.explained:
            return ruled("undecided", off, truth.remedy, mistakes=series)
        return ruled("wrong", off, mistakes=mistakes)

    def differences(self, part: Piece, gradient: Array) -> Truth:
        """Return what differences of the layer tell."""
        mine = gradient[part.span]
        rows = self.along(part, mine)
        lines, claimed = self.slopes(part, rows), rows @ mine
        values, doubt, kinks = np.array([each[:3] for each in lines]).T
        # An input that hardly counts is known as well as the loss.
        least = EXACT * abs(self.layer.value(self.layer.theta))
        size = max(norm(values), norm(claimed), least)
        usable = doubt <= RESOLVED * size + lines[0].noise
        left = count((~usable).sum(), "direction")
        seen = f", {left} left out for kinks or noise" * (not usable.all())
        if len(mine) > ALL:
            seen += f" ({self.directions} random directions, {SOME} of {len(mine)} coordinates)"
        seen += " (symmetric changes alone)" * part.symmetric
        hidden = ""
        if 2 * usable.sum() < len(rows):
            why, remedy = "noise", "a tighter solver" if self.precise else "float64"
            if kinks.any():
                why, remedy = "kinks", "an audit at other inputs"
            hidden = f"cannot be told from {why}{seen}: {remedy} would tell"
        known = number(norm(doubt[usable]) / (size or 1.0))
        return Truth(
            values[usable],
            BEYOND * doubt[usable] + (EXACT if self.precise else ROUNDED) * size,
            size,
            f"differences of the computed function, known to {known}{seen}",
            lines[0],
            claimed[0],
            rows[usable],
            hidden,
            explained=np.inf if self.layer.has_loop else 0.0,
            remedy="a solver in its loop may stop early, and then has other differences than its"
            " solution: give step=, residual= or tighten=",
        )

    def truths(self, part: Piece, gradient: Array) -> Iterator[Truth]:
        """Yield the truth, and then what is right for what the layer computes, if that is not its
        solution.
        """
        if not (implicit := self.implicit):
            yield self.differences(part, gradient)
            return
        expected, returned = implicit.exact[part.span], implicit.at_returned[part.span]
        # An input that hardly counts is known as well as all of the gradient.
        size = max(norm(expected), ROUNDED * norm(implicit.exact)) or 1.0
        moved, condition = implicit.moved, implicit.condition
        interval = max(moved, distance(returned, expected, size))
        explained = BEYOND * max(interval, condition * moved)
        if implicit.solved:
            explained = min(AT_MOST, RESOLVED * condition)
        poor = " only, of an ill-conditioned system" * (implicit.bound > RESOLVED)
        factor = number(distance(gradient[part.span], expected, size) / (moved or np.nan))
        truth = Truth(
            expected,
            (BEYOND * implicit.bound + (EXACT if self.precise else ROUNDED)) * size,
            size,
            f"the implicit gradient, known to {number(implicit.bound)}{poor}",
            implicit.line,
            gradient @ implicit.along,
            interval=interval,
            explained=explained,
            early=f"the layer's solution is off by {number(moved)} (factor {factor})",
            remedy="a backward solve that stops early may lose that much: give tighten=",
        )
        yield truth
        yield replace(truth, expected=returned, what="that at the returned solution")
        if not implicit.solved:
            differences = self.differences(part, gradient)
            if not differences.agrees(expected):
                yield differences

    def common_mistakes(self, part: Piece, gradient: Array, truth: Truth) -> Mistakes:
        """Yield what common mistakes make of the gradient in a part."""
        seen = truth.seen(gradient[part.span])
        layer, once = self.layer, gradient[part.span]
        doubled = replace(layer, loss=lambda made, *inputs: 2 * layer.lost(made, inputs))
        twice = doubled.gradient(layer.theta)[part.span]
        if once.any() and distance(twice, once) < ROUNDED:
            yield "the backward pass does not multiply by the gradient that comes in", seen
        elif distance(twice, 2 * once) > RESOLVED:
            yield "the backward pass is not linear in the gradient that comes in", seen
        if self.precise and only_single([once]) and truth.error(once) < BEYOND * RESOLVED:
            yield SINGLE, seen
        if truth.rows is not None and len(seen) > 1:
            # The entry whose change explains most of the gap.
            columns = truth.rows / np.maximum(np.linalg.norm(truth.rows, axis=0), EXACT)
            aligned = (seen - truth.expected) @ columns
            entry = np.abs(aligned).argmax()
            yield (
                f"wrong in entry {entry} alone",
                truth.expected + aligned[entry] * columns.T[entry],
            )
        yield from without_equation(part, self.outputs, seen, truth.expected)
        if self.implicit:
            for name, whole in of_equation(layer, self.implicit, gradient, self.elsewhere):
                yield name, whole[part.span]

    def by_jacobian(self, part: Piece, mine: Array, expected: Array) -> Mistakes:
        """Yield what common mistakes make of the Jacobian in a part."""
        yield from of_jacobian(mine, expected)
        for other in self.layer.parts:
            exchanged = part.unit / other.unit * self.layer.jacobians[1][:, other.span]
            yield f"exchanged with the gradient in {other.name}", exchanged
        if self.implicit:
            problem = self.implicit.running.problem
            system = problem.linearized(self.implicit.returned).matrix.numpy(force=True)
            what = "row of the equation's derivative in the input"
            for name, each in scaled(system @ mine, system @ expected, what):
                yield name, np.linalg.solve(system, each)


def tightened(layer: Any, tighten: Any) -> Any:
    """Return a layer with a tighter option, or the one that was given."""
    if callable(tighten):
        return tighten
    changed = copy.copy(layer)
    value = getattr(layer, tighten, None)
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
    setattr(changed, tighten, value)
    return changed
