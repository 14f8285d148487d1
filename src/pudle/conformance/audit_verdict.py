"""The verdict on a gradient: what it is compared with, where a gap may come from, and which
mistake explains it.
"""

import contextlib
import copy
import dataclasses
import functools
import inspect
from collections.abc import Callable
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
from .audit_layer import Layer, only_single, reals
from .closed_forms import Array
from .explanations import MULTIPLE, Mistakes, distance, likely
from .tolerances import EXACT, ROUNDED

#: Verdicts from the worst.
VERDICTS = ("wrong", "undecided", "inexact", "right")
#: Entries up to which all coordinates are looked at, and how many of more.
ALL, SOME = 64, 4
#: Times an interval, or a difference its uncertainty, that a gap is beyond doubt.
BEYOND = 10.0
#: Differences that tell no more than this share of a gradient decide nothing, and two calls that
#: differ by more are not one function.
RESOLVED = 1e-3
#: What a backward solve to a usual tolerance loses times the condition number, and at most: less is
#: not called wrong without a name.
LOOSE, AT_MOST = 1e-3, 0.05
#: Mistakes that may be a solver's that stops early.
WEAK = ("a truncated series", "a part of the batch")
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

    def ruled(self, verdict: str, *reasons: str) -> "Part":
        """Return it with a verdict and further reasons."""
        text = "; ".join(filter(None, [self.text, *reasons]))
        return dataclasses.replace(self, verdict=verdict, text=text)

    def explained(self, mine: Array, expected: Array, mistakes: Mistakes, slack: float) -> "Part":
        """Return it with the likeliest mistakes, at most two; any factor explains fewer entries
        than three.
        """
        found = {name: left for left, name in likely(mine, expected, mistakes, slack)}
        most = 3 * min(found.values(), default=0.0) + EXACT
        names = [name for name, left in found.items() if left <= most]
        names = [name for name in names if len(mine) > 2 or not name.endswith(MULTIPLE)]
        return dataclasses.replace(self, mistakes=tuple(names[:2]))


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
            self.layer.outputs(self.layer.parts)
            return True
        return False

    def __call__(self) -> list[Part]:
        """Return the verdict on each part."""
        layer, parts = self.layer, self.layer.parts
        if not all(np.isfinite(each).all() for each in self.outputs):
            raise InvalidArgument("the layer returns NaN or infinite entries: audit other inputs")
        try:
            layer.gradient(self.elsewhere)
            calls = [layer.gradient(parts) for _ in range(3)]
            calls.append(layer.gradient(parts, between=self.elsewhere))
        except RuntimeError as error:
            raise InvalidArgument(f"the layer's gradient fails: {first_line(error)}") from error
        found = self.judged(calls[0])
        apart = [max(map(distance, each, calls[0])) for each in calls]
        again = max(map(distance, calls[2], calls[1]))
        if again > RESOLVED:
            verdict = "wrong" if layer.value(parts) == layer.value(parts) else "undecided"
            named = f"not deterministic: two calls differ by {number(again)} of the gradient"
            return [dataclasses.replace(each, verdict=verdict, mistakes=(named,)) for each in found]
        if max(apart) <= RESOLVED:
            return found
        named = "a stale solution, that of another call: keep it in ctx, not on the layer"
        for index, other in enumerate(self.judged(calls[int(np.argmax(apart))])):
            worse, better = sorted((found[index], other), key=Part.rank)
            least = {"right": 0.0, "inexact": AT_MOST}.get(better.verdict, np.inf)
            verdict = "wrong" if max(apart) > least else worse.verdict
            if worse.verdict != "right":
                found[index] = dataclasses.replace(worse, verdict=verdict, mistakes=(named,))
        return found

    # --- what is compared

    @functools.cached_property
    def outputs(self) -> list[Array]:
        """What the layer returns."""
        made = reals(self.layer.outputs(self.layer.parts))
        return [each.double().numpy(force=True) for each in made]

    @functools.cached_property
    def precise(self) -> bool:
        """True if the layer computes in float64."""
        double = all(part.dtype == torch.float64 for part in self.layer.parts)
        return double and not only_single(self.outputs)

    @functools.cached_property
    def elsewhere(self) -> list[Tensor]:
        """Parts a little away, if the layer has a value there."""
        with contextlib.suppress(Exception):
            moved = [self.moved(*each, ELSEWHERE) for each in enumerate(self.drawn("elsewhere"))]
            self.layer.outputs(moved)
            return moved
        return self.layer.parts

    def drawn(self, purpose: str) -> list[Array]:
        """Return a random direction in each part."""
        random = generator(self.layer.seed, f"audit {purpose}")
        return [random.standard_normal(part.numel()) for part in self.layer.parts]

    def scaled(self, index: int, gradient: Array) -> Array:
        """Return a gradient, or a direction, in a part as a vector, in units of the part, the root
        mean square of its entries; of a symmetric matrix the symmetric part.
        """
        part = self.layer.parts[index]
        size = float(part.double().square().mean()) ** 0.5 if part.numel() else 0.0
        if _is_symmetric(part):
            # Only one half of such a matrix may be read.
            gradient = gradient.reshape(part.shape)
            gradient = (gradient + gradient.swapaxes(-1, -2)) / 2
        return gradient.ravel() * (size or 1.0)

    def moved(self, index: int, direction: Array, distance: float) -> Tensor:
        """Return a part, moved along a direction."""
        part = self.layer.parts[index]
        by = distance * self.scaled(index, direction)
        return part + torch.as_tensor(by.reshape(part.shape)).to(part)

    def slopes(self, layer: Layer, index: int, rows: Array) -> list[Slope]:
        """Return the derivatives along directions."""

        def line(row: Array) -> Callable[[float], float]:
            def value(distance: float) -> float:
                parts = [*layer.parts]
                parts[index] = self.moved(index, row, distance)
                return layer.value(parts)

            return functools.cache(value)

        mixed = line(rows.sum(0) / len(rows) ** 0.5)
        precision = torch.float64 if self.precise else torch.float32
        spacing = torch.finfo(layer.parts[index].dtype).eps ** 0.5
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
        theta, drawn = found.running.problem.theta, enumerate(self.drawn("of an equation"))
        along = torch.as_tensor(np.concatenate([self.scaled(*each) for each in drawn])).to(theta)
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

    def judged(self, gradients: list[Array]) -> list[Part]:
        """Return the verdict on each part."""
        return [self.part(index, gradients) for index in range(len(gradients))]

    def part(self, index: int, gradients: list[Array]) -> Part:
        """Return the verdict on one part."""
        name, mine = self.layer.title(self.layer.wrt[index]), self.scaled(index, gradients[index])
        bad = int((~np.isfinite(mine)).sum())
        if bad or not mine.size:
            text = f"has {mine.size} entries, of which {bad} are NaN or infinite"
            return Part(name, "wrong" if bad else "undecided", np.inf if bad else np.nan, text)
        if isinstance(self.implicit, str):
            return Part(name, "undecided", np.nan, f"has no truth: {self.implicit}")
        return (self.beside if self.implicit else self.alone)(name, index, gradients)

    def alone(self, name: str, index: int, gradients: list[Array]) -> Part:
        """Judge a gradient by differences of the layer alone."""
        mine = self.scaled(index, gradients[index])
        rows = self.along(index, mine)
        lines, claimed = self.slopes(self.layer, index, rows), rows @ mine
        values, doubt, kinks = np.array([each[:3] for each in lines]).T
        size = max(float(np.linalg.norm(values)), float(np.linalg.norm(claimed)))
        usable = doubt <= RESOLVED * size + lines[0].noise
        left = count(int((~usable).sum()), "direction")
        seen = f", {left} left out for kinks or noise" * (not usable.all())
        if len(mine) > ALL:
            seen += f" ({self.directions} random directions, {SOME} of {len(mine)} coordinates)"
        if _is_symmetric(self.layer.parts[index]):
            seen += " (symmetric changes alone)"
        part = Part(name, "", np.nan, "", (), lines[0], claimed[0])
        if 2 * usable.sum() < len(rows):
            why, remedy = "noise", "a tighter solver" if self.precise else "float64"
            if kinks.any():
                why, remedy = "kinks", "an audit at other inputs"
            return part.ruled("undecided", f"cannot be told from {why}{seen}: {remedy} would tell")
        rows, values, doubt, claimed = (each[usable] for each in (rows, values, doubt, claimed))
        known, what = float(np.linalg.norm(doubt)) / (size or 1.0), "differences of the layer"
        part = self.compared(
            part, claimed, values, doubt, size, f"{what}, known to {number(known)}{seen}"
        )
        if part.verdict:
            return part
        if part.error < ROUNDED:
            return self.rounded(part, gradients[index])
        part = part.explained(claimed, values, self.simple(index, claimed, values), 2 * known)
        part = dataclasses.replace(part, text=f"{part.text}, of the computed function")

        def error_of(layer: Layer, gradient: Array) -> float:
            lines = self.slopes(layer, index, rows)
            return distance(rows @ gradient, np.array([each.value for each in lines]))

        weak = [each.endswith(MULTIPLE) or each.startswith(WEAK) for each in part.mistakes]
        if not all(weak):
            return part.ruled("wrong")
        if self.tighten is not None:
            return self.tightened(part, index, error_of)
        if self.layer.has_loop():
            why = "a solver in its loop may stop early, and then has other differences than its"
            return part.ruled("undecided", f"{why} solution: give step=, residual= or tighten=")
        return part.ruled("wrong")

    def compared(
        self, part: Part, mine: Array, truth: Array, doubt: Any, size: float, what: str
    ) -> Part:
        """Return a part with its error, and the verdict if the gradient is right."""
        error, rounding = distance(mine, truth, size), EXACT if self.precise else ROUNDED
        part = dataclasses.replace(part, error=error)
        if (np.abs(mine - truth) <= BEYOND * doubt + rounding * size).all():
            return part.ruled("right", f"agrees to {number(error)} with {what}")
        return part.ruled("", f"is off by {number(error)} of its norm from {what}")

    def beside(self, name: str, index: int, gradients: list[Array]) -> Part:
        """Judge a gradient by the implicit one."""
        implicit: Any = self.implicit
        ends = np.cumsum([part.numel() for part in self.layer.parts])[:-1]

        def project(gradient: Any) -> Array:
            return self.scaled(index, np.split(np.asarray(gradient), ends)[index])

        whole = np.concatenate([each.ravel() for each in gradients])
        mine, exact, returned = map(project, (whole, implicit.exact, implicit.at_returned))
        # An input that hardly counts is known as well as all of the gradient.
        least = ROUNDED * float((implicit.exact * implicit.along).norm())
        size = max(float(np.linalg.norm(exact)), least) or 1.0
        part = Part(name, "", 0, "", (), implicit.line, whole @ np.asarray(implicit.along))
        what = f"the implicit gradient, known to {number(implicit.bound)}"
        part = self.compared(part, mine, exact, implicit.bound * size, size, what)
        if part.verdict:
            return part
        interval = max(implicit.moved, distance(exact, returned, size))
        factor = number(part.error / (implicit.moved or np.nan))
        early = f"the layer's solution is off by {number(implicit.moved)} (factor {factor})"
        if self.compared(part, mine, returned, implicit.bound * size, size, "").verdict:
            return part.ruled("inexact", f"it is right at the solution as returned: {early}")
        if implicit.moved > EXACT * implicit.condition:
            rows = self.along(index, mine)
            values, doubt = np.array([each[:2] for each in self.slopes(self.layer, index, rows)]).T
            apart = np.linalg.norm(rows @ (mine - exact))
            same = self.compared(part, rows @ mine, values, doubt, size, "").verdict
            if same and BEYOND * np.linalg.norm(doubt) <= apart / BEYOND:
                return part.ruled("inexact", f"it is that of the computed function: {early}")
        if part.error < ROUNDED:
            return self.rounded(part, gradients[index])
        earlier = reals(self.layer.outputs(self.elsewhere))
        mistaken = implicit.mistaken(torch.as_tensor(whole), self.elsewhere, earlier)
        mistakes = [*self.simple(index, mine, returned)]
        mistakes += [(mistake, project(gradient)) for mistake, gradient in mistaken]
        vague = max(LOOSE * (mine.size > 2), 3 * interval)
        part = part.explained(mine, returned, mistakes, vague)
        loose = max(min(AT_MOST, LOOSE * implicit.condition), BEYOND * interval)
        weak = all(each.startswith(WEAK) for each in part.mistakes)
        if part.mistakes and not (weak and part.error <= loose):
            return part.ruled("wrong")
        if self.tighten is not None:
            return self.tightened(part, index, lambda _, mine: distance(mine, exact, size))
        if part.error <= BEYOND * interval:
            return part.ruled("inexact", early)
        if implicit.residual > EXACT**1.5:
            loose = BEYOND * implicit.condition * implicit.residual
        why = "a backward solve that stops early may lose that much: give tighten="
        return part.ruled("undecided", why) if part.error <= loose else part.ruled("wrong")

    def tightened(self, part: Part, index: int, error_of: Callable[[Layer, Array], float]) -> Part:
        """Judge a gradient by what a tighter solver changes."""
        layer = dataclasses.replace(self.layer, call=_tightened(self.layer.call, self.tighten))
        layer.__dict__["weights"] = self.layer.weights
        made = [each.double().numpy(force=True) for each in reals(layer.outputs(layer.parts))]
        moved = max(map(distance, made, self.outputs))
        after = error_of(layer, self.scaled(index, layer.gradient(layer.parts)[index]))
        says = f"tightened, the layer moves by {number(moved)} and the error is {number(after)}"
        if after <= part.error / 3:
            return dataclasses.replace(part.ruled("inexact", says), mistakes=())
        return part.ruled("wrong" if moved <= part.error / BEYOND else "undecided", says)

    def rounded(self, part: Part, gradient: Array) -> Part:
        """Judge a gradient that is off by a few roundings of float32."""
        if self.precise and only_single([gradient]):
            named = ("float32 inside the backward pass",)
            return dataclasses.replace(part, mistakes=named).ruled("wrong")
        return part.ruled("inexact", "is there float32, or a difference quotient, in its path?")

    def simple(self, index: int, mine: Array, expected: Array) -> Mistakes:
        """Yield what mistakes that need no equation make of an expected gradient, along some
        directions or in all entries.
        """
        part = self.layer.parts[index]
        shape = tuple(part.shape)
        if not mine.any():
            yield "detached: no gradient arrives at all", mine
        counts = {*shape[:1], *(n for each in self.outputs for n in (each.size, *each.shape[:1]))}
        for n in sorted(counts - {1}):
            yield f"a sum over {n}, not a mean", n * expected
            yield f"a mean over {n}, not a sum", expected / n
        if mine.size != part.numel():
            return
        if part.ndim > 1 and shape[0] > 1:
            pairs = zip(mine.reshape(shape), expected.reshape(shape), strict=True)
            little = 0.01 * distance(mine, expected)
            right = [bool(distance(a, b) <= little and b.any()) for a, b in pairs]
            if any(right) and not all(right):
                yield f"a part of the batch: {right.count(True)} of {len(right)} rows right", mine
        if part.ndim == 2 and shape[0] == shape[1]:
            matrix = expected.reshape(shape)
            both = (matrix + np.diag(np.diag(matrix))).ravel()
            if _is_symmetric(part):
                yield "half of a symmetric matrix", both / 2
                yield "both halves of a symmetric matrix added", 2 * expected - both / 2
            yield "transposed", matrix.T.ravel()


def _is_symmetric(part: Tensor) -> bool:
    square = part.ndim > 1 and part.shape[-1] == part.shape[-2] > 1
    return square and bool((part == part.mT).all() and part.any())


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
