"""The verdict on a gradient: what it is compared with, where a gap may come from, and which
mistake explains it.
"""

import contextlib
import copy
import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InvalidArgument, first_line
from ..streams import generator
from ..text import count, number
from .audit_differences import COARSE, LADDER, Slope, around, noise_of, slope
from .audit_implicit import Implicit, implicit_of
from .audit_layer import Layer, is_symmetric, only_single, reals
from .audit_mistakes import WEAK, most_likely, of_equation, without_equation
from .closed_forms import Array
from .explanations import SINGLE_PATH, Mistakes, distance
from .tolerances import EXACT, ROUNDED, SAME

#: Verdicts from the worst.
VERDICTS = ("wrong", "undecided", "inexact", "right")
#: Entries up to which all coordinates are looked at, and how many of more.
ALL, SOME = 64, 4
#: Times an interval, or a difference its uncertainty, that a gap is beyond doubt.
BEYOND = 10.0
#: Differences that tell no more than this share of a gradient decide nothing, and two calls that
#: differ by more are not one function. A backward solve to this usual tolerance loses it times the
#: condition number, and at most the second share.
RESOLVED, AT_MOST = 1e-3, 0.05
#: How a tighter option differs: a number of steps, a tolerance.
MORE_STEPS, TIGHTER = 10, 1e-3
#: How far away the layer is called to see whether it remembers a call.
ELSEWHERE = 0.1


@dataclass(frozen=True)
class Part:
    """The verdict on the gradient in one input or parameter.

    Attributes
    ----------
    name, verdict : str
    error : float
        See `Audit`.
    text : str
        Why, as the rest of a sentence.
    mistakes : tuple of str
    line : Slope or None
        Differences along one direction.
    claimed : float
        The derivative along it as the layer says.
    """

    name: str
    verdict: str
    error: float
    text: str
    mistakes: tuple[str, ...] = ()
    line: Slope | None = None
    claimed: float = np.nan

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
    rows : ndarray or None
        The directions.
    line, claimed
        See `Part`.
    hidden : str
        What hides it; empty if it can be told.
    """

    expected: Array
    doubt: Any
    size: float
    what: str
    rows: Array | None = None
    line: Slope | None = None
    claimed: float = np.nan
    hidden: str = ""

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
class Early:
    """What a solver that stops early may explain.

    Attributes
    ----------
    computed : iterable of Truth
        What the gradient would be of what the layer computes in place of its solution.
    interval : float
        How much of the gradient the error of the layer's solution changes.
    explained : float
        Error up to which the backward pass may have stopped early.
    text, remedy : str
        How far the solution is off, and what would decide.
    """

    computed: Iterable[Truth]
    interval: float
    explained: float
    text: str
    remedy: str


@dataclass(frozen=True, eq=False)
class Judge:
    """Judges a layer's gradients: by the implicit ones if `residual` or `step` is given, else by
    differences. All is in units of the parts.
    """

    layer: Layer
    residual: Callable[..., Any] | None
    step: Callable[..., Any] | None
    directions: int
    tighten: Callable[..., Any] | str | None

    def runs(self) -> bool:
        """Return whether the layer takes its inputs in this precision. The first call of all is
        elsewhere: a layer may keep what it finds in its first.
        """
        self.elsewhere  # noqa: B018
        with contextlib.suppress(RuntimeError, TypeError, ValueError):
            self.layer.outputs(self.layer.theta)
            return True
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
        found = [self.part(index, calls[0]) for index in range(len(layer.parts))]
        apart = [layer.apart(each, calls[0]) for each in calls]
        again = layer.apart(calls[2], calls[1])
        if again > RESOLVED:
            verdict = "wrong" if layer.value(theta) == layer.value(theta) else "undecided"
            named = f"not deterministic: two calls differ by {number(again)} of the gradient"
            return [dataclasses.replace(each, verdict=verdict, mistakes=(named,)) for each in found]
        if max(apart) > RESOLVED:
            named = "a stale solution, that of another call: keep it in ctx, not on the layer"
            for index, first in enumerate(found):
                other = self.part(index, calls[int(np.argmax(apart))])
                worse, better = sorted((first, other), key=Part.rank)
                if worse.verdict != "right":
                    verdict = "wrong" if better.verdict == "right" else worse.verdict
                    found[index] = dataclasses.replace(worse, verdict=verdict, mistakes=(named,))
        return found

    # --- what is compared

    @functools.cached_property
    def outputs(self) -> list[Array]:
        """What the layer returns."""
        made = reals(self.layer.outputs(self.layer.theta))
        return [each.double().numpy(force=True) for each in made]

    @functools.cached_property
    def precise(self) -> bool:
        """True if the layer computes in float64."""
        double = all(part.dtype == torch.float64 for part in self.layer.parts)
        return double and not only_single(self.outputs)

    @functools.cached_property
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

    def slopes(self, index: int, rows: Array) -> list[Slope]:
        """Return the derivatives along directions in a part."""
        theta, span = self.layer.theta, self.layer.spans[index]

        def line(row: Array) -> Callable[[float], float]:
            direction = torch.zeros_like(theta)
            direction[span] = torch.as_tensor(row).to(theta)
            return functools.cache(lambda length: self.layer.value(theta + length * direction))

        mixed = line(rows.sum(0) / len(rows) ** 0.5)
        precision = torch.float64 if self.precise else torch.float32
        spacing = torch.finfo(self.layer.parts[index].dtype).eps ** 0.5
        noise = noise_of(mixed, (spacing, COARSE), torch.finfo(precision).eps)
        found: list[Slope] = []
        for row in rows:
            made = slope(line(row), noise, around(found[0].rung) if found else LADDER)
            if found and made.uncertainty > BEYOND * found[0].uncertainty:
                made = slope(line(row), noise)
            found.append(made)
        return found

    def along(self, index: int, mine: Array) -> Array:
        """Return the directions in which a part is varied, one a row."""
        size = len(mine)
        if size <= ALL:
            return np.eye(size)
        random = generator(self.layer.seed, f"audit directions {index}")
        single = [*random.choice(size, SOME - 1, replace=False), np.abs(mine).argmax()]
        rows = random.standard_normal((self.directions + SOME, size))
        rows[self.directions :] = np.arange(size) == np.array(single)[:, None]
        return rows

    @functools.cached_property
    def implicit(self) -> Implicit | str | None:
        """The implicit gradients, confirmed by differences of the refined solution along a random
        direction; why there are none; None where no equation is given.
        """
        if not (self.residual or self.step):
            return None
        found = implicit_of(self.layer, self.residual, self.step)
        if isinstance(found, str):
            return found
        theta, along = self.layer.theta, self.drawn("of an equation")
        noise = np.finfo(float).eps * found.condition * abs(found.value(theta))
        line = slope(lambda t: found.value(theta + t * along), noise, LADDER[1:7])
        claimed, size = float(found.exact @ along), float(found.exact.norm() * along.norm())
        given = "residual" if self.residual else "step"
        if line.kink:
            return "the solution has a kink here: audit other inputs"
        if not abs(claimed - line.value) <= BEYOND * line.uncertainty + ROUNDED * size:
            return (
                f"differences of the solution give {line.value:.6g} where the gradients of {given}"
                f" give {claimed:.6g}: audit {given} itself, or inputs farther from a kink"
            )
        return dataclasses.replace(found, line=line, along=along)

    # --- the verdict

    def part(self, index: int, gradient: Array) -> Part:
        """Return the verdict on one part."""
        title, mine = self.layer.title(self.layer.wrt[index]), gradient[self.layer.spans[index]]
        if bad := int((~np.isfinite(mine)).sum()):
            return Part(title, "wrong", np.inf, f"has {bad} entries that are NaN or infinite")
        if not mine.size or isinstance(self.implicit, str):
            why = f"has no truth: {self.implicit}" if mine.size else "has no entries"
            return Part(title, "undecided", np.nan, why)
        truth = (self.exact if self.implicit else self.differences)(index, gradient)
        error = truth.error(mine)
        off = f"is off by {number(error)} of its norm from {truth.what}"

        def ruled(verdict: str, *reasons: str, mistakes: tuple[str, ...] = ()) -> Part:
            text = "; ".join(filter(None, reasons))
            return Part(title, verdict, error, text, mistakes, truth.line, truth.claimed)

        if truth.hidden:
            return dataclasses.replace(ruled("undecided", truth.hidden), error=np.nan)
        if truth.agrees(mine):
            return ruled("right", f"agrees to {number(error)} with {truth.what}")
        early = (self.stopped if self.implicit else self.looping)(index, gradient, truth)
        for computed in early.computed:
            if computed.agrees(mine):
                return ruled("inexact", off, f"it agrees with {computed.what}", early.text)
        if error < ROUNDED:
            if self.precise and only_single([mine]):
                return ruled("wrong", off, mistakes=("float32 inside the backward pass",))
            return ruled("inexact", off, SINGLE_PATH)
        mistakes = self.mistakes(index, gradient, truth, early)
        strong = not all(any(weak in each for weak in WEAK) for each in mistakes)
        if strong or (mistakes and error > early.explained):
            return ruled("wrong", off, mistakes=mistakes)
        if self.tighten is not None:
            tight, moved = self.tightened()
            after = tight.part(index, tight.layer.gradient(tight.layer.theta)).error
            says = f"tightened, the layer moves by {number(moved)} and the error is {number(after)}"
            if after <= error / 3:
                return ruled("inexact", off, says)
            verdict = "wrong" if moved <= error / BEYOND else "undecided"
            return ruled(verdict, off, says, mistakes=mistakes)
        if error <= BEYOND * early.interval:
            return ruled("inexact", off, early.text, mistakes=mistakes)
        verdict, why = ("undecided", early.remedy) if error <= early.explained else ("wrong", "")
        return ruled(verdict, off, why, mistakes=mistakes)

    def differences(self, index: int, gradient: Array) -> Truth:
        """Return what differences of the layer tell."""
        mine = gradient[self.layer.spans[index]]
        rows = self.along(index, mine)
        lines, claimed = self.slopes(index, rows), rows @ mine
        values, doubt, kinks = np.array([each[:3] for each in lines]).T
        size = max(float(np.linalg.norm(values)), float(np.linalg.norm(claimed)))
        usable = doubt <= RESOLVED * size + lines[0].noise
        left = count(int((~usable).sum()), "direction")
        seen = f", {left} left out for kinks or noise" * (not usable.all())
        if len(mine) > ALL:
            seen += f" ({self.directions} random directions, {SOME} of {len(mine)} coordinates)"
        if is_symmetric(self.layer.parts[index]):
            seen += " (symmetric changes alone)"
        hidden = ""
        if 2 * usable.sum() < len(rows):
            why, remedy = "noise", "a tighter solver" if self.precise else "float64"
            if kinks.any():
                why, remedy = "kinks", "an audit at other inputs"
            hidden = f"cannot be told from {why}{seen}: {remedy} would tell"
        rows, values, doubt = rows[usable], values[usable], doubt[usable]
        known = number(float(np.linalg.norm(doubt)) / (size or 1.0))
        what = f"differences of the computed function, known to {known}{seen}"
        doubt = self.doubt(doubt, size)
        return Truth(values, doubt, size, what, rows, lines[0], claimed[0], hidden)

    def exact(self, index: int, gradient: Array) -> Truth:
        """Return the implicit gradient."""
        implicit: Any = self.implicit
        exact, along = np.asarray(implicit.exact), np.asarray(implicit.along)
        expected = exact[self.layer.spans[index]]
        # An input that hardly counts is known as well as all of the gradient.
        least = ROUNDED * float(np.linalg.norm(exact))
        size = max(float(np.linalg.norm(expected)), least) or 1.0
        what = f"the implicit gradient, known to {number(implicit.bound)}"
        doubt, claimed = self.doubt(implicit.bound * size, size), gradient @ along
        return Truth(expected, doubt, size, what, None, implicit.line, claimed)

    def doubt(self, uncertainty: Any, size: float) -> Any:
        """Return how far a right gradient may be from one that is known to an uncertainty."""
        return BEYOND * uncertainty + (EXACT if self.precise else ROUNDED) * size

    def looping(self, index: int, gradient: Array, truth: Truth) -> Early:
        """Return what a solver inside may explain, of which nothing is known."""
        remedy = "a solver in its loop may stop early, and then has other differences than its"
        remedy += " solution: give step=, residual= or tighten="
        return Early((), 0.0, np.inf if self.layer.has_loop() else 0.0, "", remedy)

    def stopped(self, index: int, gradient: Array, truth: Truth) -> Early:
        """Return what the distance of the layer's solution from the refined one explains."""
        implicit: Any = self.implicit
        what, expected = (
            "that at the solution as returned",
            np.asarray(implicit.at_returned)[self.layer.spans[index]],
        )
        returned = dataclasses.replace(truth, expected=expected, what=what)

        unsolved = implicit.moved > SAME * implicit.condition

        def computed() -> Iterator[Truth]:
            yield returned
            if unsolved:
                differences = self.differences(index, gradient)
                if not differences.agrees(truth.expected):
                    yield differences

        interval, error = (
            max(implicit.moved, truth.error(expected)),
            truth.error(gradient[self.layer.spans[index]]),
        )
        explained = BEYOND * max(interval, implicit.condition * implicit.moved)
        if not unsolved:
            explained = min(AT_MOST, RESOLVED * implicit.condition)
        factor = number(error / (implicit.moved or np.nan))
        text = f"the layer's solution is off by {number(implicit.moved)} (factor {factor})"
        remedy = "a backward solve that stops early may lose that much: give tighten="
        return Early(computed(), interval, explained, text, remedy)

    def mistakes(self, index: int, gradient: Array, truth: Truth, early: Early) -> tuple[str, ...]:
        """Return the likeliest mistakes."""

        def all_() -> Mistakes:
            yield from without_equation(self.layer.parts[index], self.outputs, mine, truth.expected)
            if isinstance(self.implicit, Implicit):
                earlier = reals(self.layer.outputs(self.elsewhere))
                made = of_equation(self.implicit, gradient, self.elsewhere, earlier)
                yield from ((name, whole[self.layer.spans[index]]) for name, whole in made)

        mine = truth.seen(gradient[self.layer.spans[index]])
        slack = max(RESOLVED * (mine.size > 2), 3 * early.interval)
        return most_likely(mine, truth.expected, all_(), slack)

    def tightened(self) -> tuple["Judge", float]:
        """Return the judge of the layer with a tighter solver, and how far its outputs move."""
        layer = dataclasses.replace(self.layer, call=_tightened(self.layer.call, self.tighten))
        tight = dataclasses.replace(self, layer=layer, tighten=None)
        return tight, max(map(distance, tight.outputs, self.outputs))


def _tightened(layer: Any, tighten: Any) -> Any:
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
        return functools.partial(layer, **{tighten: value})
    setattr(changed, tighten, value)
    return changed
