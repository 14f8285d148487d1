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
        return dataclasses.replace(self, verdict=verdict, text="; ".join([self.text, *reasons]))


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
        for parts in (self.elsewhere, self.layer.parts):
            with contextlib.suppress(RuntimeError, TypeError, ValueError):
                self.layer.outputs(parts)
                return True
        return False

    def __call__(self) -> tuple[list[Part], list[str]]:
        """Return the verdict on each part, and remarks."""
        layer, parts, elsewhere = self.layer, self.layer.parts, self.elsewhere
        if not all(np.isfinite(each).all() for each in self.outputs):
            raise InvalidArgument("the layer returns NaN or infinite entries: audit other inputs")
        try:
            layer.gradient(elsewhere)
        except Exception:  # noqa: BLE001  # there the layer may have no value
            elsewhere = parts
        try:
            calls = [layer.gradient(parts) for _ in range(3)]
            calls.append(layer.gradient(parts, between=elsewhere))
        except RuntimeError as error:
            raise InvalidArgument(f"the layer's gradient fails: {first_line(error)}") from error
        found, remarks = self.judged(calls[0]), list[str]()
        apart = [max(map(distance, each, calls[0])) for each in calls]
        again = max(map(distance, calls[2], calls[1]))
        if again > RESOLVED:
            same = (
                self.outputs[0].tobytes()
                == reals(layer.outputs(parts))[0].double().numpy(force=True).tobytes()
            )
            named = f"not deterministic: two calls differ by {number(again)} of the gradient"
            found = [_named(part, named, "wrong" if same else "undecided") for part in found]
        elif max(apart) > RESOLVED:
            named = "a stale solution, that of another call: keep it in ctx, not on the layer"
            others = self.judged(calls[int(np.argmax(apart))])
            for index, pair in enumerate(zip(found, others, strict=True)):
                worse, better = sorted(pair, key=Part.rank)
                least = {"right": 0.0, "inexact": AT_MOST}.get(better.verdict, np.inf)
                if worse.verdict != "right":
                    found[index] = _named(
                        worse, named, "wrong" if max(apart) > least else worse.verdict
                    )
        if not self.precise:
            remarks.append("the layer computes in float32: float64 would tell more")
        if any(map(_is_symmetric, parts)):
            remarks.append("a symmetric matrix was varied as one")
        return found, remarks

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
        """Parts a little away."""
        random = generator(self.layer.seed, "audit elsewhere")
        drawn = [random.standard_normal(part.numel()) for part in self.layer.parts]
        return [self.moved(index, each, ELSEWHERE) for index, each in enumerate(drawn)]

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

        mixed, precision = line(rows.sum(0) / len(rows) ** 0.5), torch.float32
        if self.precise:
            precision = torch.float64
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
        rows = np.eye(size)
        if size > ALL:
            random = generator(self.layer.seed, f"audit directions {index}")
            single = [*random.choice(size, SOME - 1, replace=False), np.abs(mine).argmax()]
            rows = np.concatenate([random.standard_normal((self.directions, size)), rows[single]])
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
        theta, random = found.running.problem.theta, generator(self.layer.seed, "audit of a step")
        drawn = [random.standard_normal(part.numel()) for part in self.layer.parts]
        pieces = [self.scaled(index, each) for index, each in enumerate(drawn)]
        along = torch.as_tensor(np.concatenate(pieces)).to(theta)
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
        found = []
        for index, gradient in enumerate(gradients):
            name, mine = self.layer.title(self.layer.wrt[index]), self.scaled(index, gradient)
            bad = int((~np.isfinite(mine)).sum())
            if bad or not mine.size:
                verdict = "wrong" if bad else "undecided"
                text = f"has {mine.size} entries, of which {bad} are NaN or infinite"
                found.append(Part(name, verdict, np.inf if bad else np.nan, text))
            elif isinstance(self.implicit, str):
                found.append(Part(name, "undecided", np.nan, f"has no truth: {self.implicit}"))
            elif self.implicit:
                found.append(self.beside(self.implicit, name, index, gradients))
            else:
                found.append(self.alone(name, index, gradients))
        return found

    def alone(self, name: str, index: int, gradients: list[Array]) -> Part:
        """Judge a gradient by differences of the layer alone."""
        mine = self.scaled(index, gradients[index])
        rows = self.along(index, mine)
        lines, claimed = self.slopes(self.layer, index, rows), rows @ mine
        values, doubt, kinks = np.array([each[:3] for each in lines]).T
        size = max(float(np.linalg.norm(values)), float(np.linalg.norm(claimed)))
        usable = doubt <= RESOLVED * size + lines[0].noise
        seen = f" ({self.directions} random directions and {SOME} of {len(mine)} coordinates)"
        seen = seen * (len(mine) > ALL)
        left = count(int((~usable).sum()), "direction")
        seen += f", {left} left out for kinks or noise" * (not usable.all())
        if 2 * usable.sum() < len(rows):
            why, remedy = "noise", "float64" if not self.precise else "a tighter solver"
            if kinks.any():
                why, remedy = "kinks", "audits at other inputs"
            text = f"cannot be told from {why}{seen}: {remedy} would decide it"
            return Part(name, "undecided", np.nan, text, (), lines[0], claimed[0])
        rows, values, doubt, claimed = (each[usable] for each in (rows, values, doubt, claimed))
        known = float(np.linalg.norm(doubt)) / (size or 1.0)
        error, rounding = distance(claimed, values), EXACT if self.precise else ROUNDED
        part = Part(name, "", error, "", (), lines[0], claimed[0])
        if (np.abs(claimed - values) <= BEYOND * doubt + rounding * size).all():
            text = f"agrees with differences of the layer to {number(max(error, known))}{seen}"
            return dataclasses.replace(part, text=text).ruled("right")
        text = f"is off by {number(error)} of its norm from differences of the computed function"
        part = dataclasses.replace(part, text=f"{text}, which are known to {number(known)}{seen}")
        if error < ROUNDED:
            return self.rounded(part, gradients[index])
        mistakes = self.simple(index, gradients, rows, values)
        part = dataclasses.replace(part, mistakes=_names(claimed, values, mistakes, 2 * known))
        if self.tighten is not None:

            def error_of(layer: Layer, gradient: Array) -> float:
                lines = self.slopes(layer, index, rows)
                return distance(rows @ gradient, np.array([each.value for each in lines]))

            return self.tightened(part, index, error_of)
        if self.loops and all(each.endswith(MULTIPLE) for each in part.mistakes):
            return part.ruled(
                "undecided",
                "a solver in its loop may stop early, and then has other differences than its"
                " solution: give step=, residual= or tighten=",
            )
        return part.ruled("wrong")

    def beside(self, implicit: Implicit, name: str, index: int, gradients: list[Array]) -> Part:
        """Judge a gradient by the implicit one."""

        def project(gradient: Any) -> Array:
            pieces = np.split(np.asarray(gradient), ends)
            return self.scaled(index, pieces[index])

        ends = np.cumsum([part.numel() for part in self.layer.parts])[:-1]
        whole = np.concatenate([each.ravel() for each in gradients])
        gradients_there = whole, implicit.exact, implicit.at_returned
        mine, exact, returned = map(project, gradients_there)
        # An input that hardly counts is known as well as all of the gradient.
        all_of_it = float((implicit.exact * implicit.along).norm())
        size = max(float(np.linalg.norm(exact)), ROUNDED * all_of_it) or 1.0
        error = distance(mine, exact, size)
        limit = BEYOND * implicit.bound + (EXACT if self.precise else ROUNDED)
        claimed = float(whole @ np.asarray(implicit.along))
        part = Part(name, "", error, "", (), implicit.line, claimed)
        known = f"the implicit gradient, which is known to {number(implicit.bound)}"
        if error <= limit:
            text = f"agrees to {number(error)} with {known}"
            return dataclasses.replace(part, text=text).ruled("right")
        text = f"is off by {number(error)} of its norm from {known}"
        part = dataclasses.replace(part, text=text)
        factor = number(error / (implicit.moved or np.nan))
        early = f"the layer's solution is off by {number(implicit.moved)} (factor {factor})"
        if distance(mine, returned, size) <= limit:
            return part.ruled("inexact", f"it is right at the solution as returned: {early}")
        if implicit.moved > EXACT * implicit.condition:
            rows = self.along(index, mine)
            lines = np.array([each[:2] for each in self.slopes(self.layer, index, rows)])
            gaps, doubt = np.abs(rows @ mine - lines[:, 0]), BEYOND * lines[:, 1]
            apart = np.linalg.norm(rows @ (mine - exact))
            if (gaps <= doubt + limit * size).all() and np.linalg.norm(doubt) <= apart / BEYOND:
                return part.ruled("inexact", f"it is that of the computed function: {early}")
        if error < ROUNDED:
            return self.rounded(part, gradients[index])
        interval = max(implicit.moved, distance(exact, returned, size))
        try:
            earlier = reals(self.layer.outputs(self.elsewhere))
        except Exception:  # noqa: BLE001  # there the layer may have no value
            earlier = []
        mistaken = implicit.mistaken(
            torch.as_tensor(whole).to(implicit.exact), self.elsewhere, earlier
        )
        mistakes = [(mistake, project(gradient)) for mistake, gradient in mistaken]
        mistakes += self.simple(index, gradients, np.eye(mine.size), returned)
        vague = max(LOOSE * (mine.size > 2), 3 * interval)
        part = dataclasses.replace(part, mistakes=_names(mine, returned, mistakes, vague))
        loose = max(min(AT_MOST, LOOSE * implicit.condition), BEYOND * interval)
        series = all(each.startswith("a truncated series") for each in part.mistakes)
        if part.mistakes and not (series and error <= loose):
            return part.ruled("wrong")
        if self.tighten is not None:
            return self.tightened(part, index, lambda _, mine: distance(mine, exact, size))
        if error <= BEYOND * interval:
            return part.ruled("inexact", early)
        if implicit.residual > EXACT**1.5:
            loose = BEYOND * implicit.condition * implicit.residual
        if error <= loose:
            why = "a backward solve that stops early may lose that much: tighten= would decide it"
            return part.ruled("undecided", why)
        return part.ruled("wrong")

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

    @functools.cached_property
    def loops(self) -> bool:
        return self.layer.has_loop()

    def simple(self, index: int, gradients: list[Array], rows: Array, expected: Array) -> Mistakes:
        """Yield what mistakes that need no equation make of an expected gradient along some
        directions.
        """
        mine, part = self.scaled(index, gradients[index]), self.layer.parts[index]
        claimed, shape = rows @ mine, tuple(part.shape)
        if not mine.any():
            yield "detached: no gradient arrives at all", claimed
        lengths = {len(each) for each in [*self.outputs, mine.reshape(shape)] if each.ndim}
        for n in sorted(lengths.union(each.size for each in self.outputs) - {1}):
            yield f"a sum over {n}, not a mean", n * expected
            yield f"a mean over {n}, not a sum", expected / n
        swapped = {
            f"that in {self.layer.title(self.layer.wrt[other])}": gradient
            for other, gradient in enumerate(gradients)
            if other != index and gradient.shape == shape
        }
        if part.ndim == 2 and shape[0] == shape[1]:
            swapped["transposed"] = gradients[index].T
        for name, gradient in swapped.items():
            # As both exchange two things, the truth is the exchanged gradient.
            yield name, claimed + expected - rows @ self.scaled(index, gradient)
        if len(rows) != part.numel():
            return
        if part.ndim and shape[0] > 1:
            pairs = zip(mine.reshape(shape), expected.reshape(shape), strict=True)
            little = 0.01 * distance(mine, expected)
            right = [bool(distance(a, b) <= little and b.any()) for a, b in pairs]
            if any(right) and not all(right):
                yield f"a part of the batch: rows that are right are {right}", mine
        if part.ndim == 2 and _is_symmetric(part):
            matrix = expected.reshape(shape)
            both = (matrix + np.diag(np.diag(matrix))).ravel()
            yield "half of a symmetric matrix", both / 2
            yield "both halves of a symmetric matrix added", 2 * expected - both / 2


def _is_symmetric(part: Tensor) -> bool:
    square = part.ndim > 1 and part.shape[-1] == part.shape[-2] > 1
    return square and bool((part == part.mT).all() and part.any())


def _names(mine: Array, expected: Array, mistakes: Mistakes, slack: float) -> tuple[str, ...]:
    """Return the likeliest mistakes, at most two; any factor explains fewer entries than three."""
    found = {name: left for left, name in likely(mine, expected, mistakes, slack)}
    best = min(found.values(), default=0.0)
    names = [name for name, left in found.items() if left <= 3 * best + EXACT]
    return tuple(name for name in names if len(mine) > 2 or not name.endswith(MULTIPLE))[:2]


def _named(part: Part, mistake: str, verdict: str) -> Part:
    return dataclasses.replace(part, verdict=verdict, mistakes=(mistake,))


def _tightened(layer: Any, tighten: Any) -> Any:
    """Return a layer with a tighter option, or the one that was given."""
    if callable(tighten):
        return tighten
    parameters: Any = {}
    if not hasattr(layer, tighten):
        parameters = inspect.signature(layer).parameters
    value = getattr(parameters.get(tighten), "default", getattr(layer, tighten, None))
    if not isinstance(value, int | float):
        raise InvalidArgument(
            f"tighten={tighten!r} is no number that the layer has: name an attribute or a keyword"
            " with a default, or give the tighter layer"
        )
    value *= MORE_STEPS if isinstance(value, int) else TIGHTER
    if parameters:
        return functools.partial(layer, **{tighten: value})
    changed = copy.copy(layer)
    setattr(changed, tighten, value)
    return changed
