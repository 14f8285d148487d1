"""The numbers of a report: one row per case and estimator, in time linear in their number.

Among them is how fast errors fall with depth, fitted where theory predicts it: once the supports
are right, and above rounding.
"""

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil, exp, log, nan, sqrt
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from pudle import text
from pudle.answers import NO_LINE, NO_ROUNDS, Curve, Line, Measured
from pudle.measuring.grouping import grouped
from pudle.measuring.results.score import ScoreRecord
from pudle.paired import Ratio
from pudle.reports.load import TIMES, Results, parsed

#: Errors at or below this are rounding in float64, whatever the reference's bound.
ROUNDING = 1e-13
#: Least number of depths to fit a line to.
FEWEST_DEPTHS = 3
#: Largest distance, in decades, between a fitted line and its points if the curve counts as
#: geometric.
CROOKED = 0.5
#: With fewer seeds than this a mean has no confidence interval worth the name, and the range over
#: the seeds is shown.
FEWEST_SEEDS = 3
CONFIDENCE = 0.95
#: Estimator that acceleration compares with, and the one whose curve ends the window.
BASE, WINDOW = "alternating", "backprop"


class NoFit(Exception):
    """Says why there is no fit."""


@dataclass(frozen=True)
class Law:
    """Decay of an estimator's error with depth T that theory predicts for right supports:
    ``T^linear rho^(power T)``.
    """

    #: 1 or 2; 0 if the error does not vanish.
    power: int
    linear: bool = False

    def __str__(self) -> str:
        return ("T " if self.linear else "") + ("floor", "ρᵀ", "ρ²ᵀ")[self.power]


def law(record: ScoreRecord) -> Law | None:
    """Return the decay that theory predicts for an estimator on a case, from what it ``computes``
    and is ``consistent_for``.

    One that is not consistent for the case's loss has a floor, whatever the algorithm. For others
    theory predicts nothing, None, where the estimator is stochastic or does not say what it
    computes, and where the algorithm is neither plain ISTA, on the losses ``lasso`` and
    ``reconstruction``, nor a problem's own iteration.

    An estimator that is consistent for every loss corrects the error of the codes to first order.
    On the lasso loss, whose derivative in the codes vanishes at the minimizer, only the square of
    that error remains. An estimator that drops (part of) the correction keeps the first order on
    the lasso loss and a floor on any other.
    """
    loss, consistent_for = record.case.loss, record.consistent_for
    if consistent_for is not None and loss not in consistent_for:
        return Law(0)
    name, arguments = parsed(record.case.algorithm)
    # The contraction factor rho is that of plain ISTA with soft thresholding, as FISTA's errors
    # oscillate, or the spectral radius of a problem's own step.
    ista = name == "ista" and arguments.keys() <= {"step"} and loss in ("lasso", "reconstruction")
    if not (ista or name == "iteration") or record.computes in ("", "stochastic"):
        return None
    complete = consistent_for is None or loss != "lasso" or "reconstruction" in consistent_for
    power = 2 if loss == "lasso" and complete else 1
    # The derivative of an unrolled curve accumulates one term per layer; that of the implicit one
    # does not.
    return Law(power, linear=complete and record.computes == "unrolled")


class Fit(NamedTuple):
    """The decay of an estimator's error on one seed of a case."""

    case: str
    estimator: str
    seed: int
    theory: Law | None
    #: What theory predicts for `rate`.
    predicted_rate: float = nan
    #: The factor of the error per layer, which is the exponential of the slope of log(error), or of
    #: log(error / T) where the law has a factor T; and the ratio of this slope to that of
    #: log(error) of `BASE`.
    rate: float = nan
    acceleration: float = nan
    #: Ends of the window.
    first_depth: float = nan
    last_depth: float = nan
    #: Why there is no fit, or none that is geometric.
    reason: str = ""


def fit(results: Results) -> list[Fit]:
    """Fit the decay of every estimator's error, once for each case, estimator and seed.

    All estimators of a case and seed share a window of depths. It begins where the signs of the
    codes become and stay right in every sample, and ends at the last depth where the error of
    backpropagation is above rounding and above the reference's bound. (A single sample with a wrong
    sign holds up an error of second order, which then falls at once by orders of magnitude: a line
    through both parts shows a rate that is none.) An estimator that itself reaches the bound
    earlier ends there. Each is fitted on the later half of its depths in the window, because rates
    are limits that faster samples hide at first; its acceleration compares both slopes on these
    depths.
    """
    laws = {(record.case.name, record.estimator): law(record) for record in results.records}
    fits = []
    for (case, estimator), theory in laws.items():
        # A base that keeps a floor has no slope to compare with.
        base = results.curve(case, BASE if laws.get((case, BASE)) != Law(0) else "")
        for seed in results.cases[case].seeds:
            fitted = Fit(case, estimator, seed, theory)
            certificate = results.references.get((case, seed, results.target(case)))
            rho = (certificate and certificate.rho) or 0.0
            if theory and theory.power and 0 < rho < 1:
                fitted = fitted._replace(predicted_rate=rho**theory.power)
            try:
                fitted = _fitted(results, fitted, base)
            except NoFit as why:
                fitted = fitted._replace(reason=str(why))
            fits.append(fitted)
    return fits


def _fitted(results: Results, blank: Fit, base: Curve) -> Fit:
    """Return the fit of one seed, compared with that of `base` where both are geometric; NoFit says
    why there is none.
    """
    seed, linear = blank.seed, bool(blank.theory and blank.theory.linear)
    errors, usable = _errors(results.curve(blank.case, blank.estimator), seed)
    depths = _depths(results, blank, usable)
    slope, distance = _slope(errors, depths, linear)
    fit = blank._replace(rate=exp(slope), first_depth=depths[0], last_depth=depths[-1])
    if distance > CROOKED:
        why = f"not geometric: off the fitted line by up to {distance:.1f} decades"
        return fit._replace(reason=why)
    errors, _ = _errors(base, seed)
    if all(errors.get(depth, 0) > ROUNDING for depth in depths):
        base_slope, distance = _slope(errors, depths)
        if base_slope < 0 and distance <= CROOKED:
            return fit._replace(acceleration=slope / base_slope)
    return fit


def _errors(curve: Curve, seed: int) -> tuple[dict[int, float], list[int]]:
    """Return the errors of a seed by depth, and the depths where they are above rounding and not at
    the bound.
    """
    errors = curve.by_seed.get(seed, {})
    floors = {*curve.depths[curve.at_floor[:, curve.seeds == seed].any(axis=1)].tolist()}
    usable = [depth for depth in errors if errors[depth] > ROUNDING and depth not in floors]
    return errors, usable


def _depths(results: Results, blank: Fit, usable: Sequence[int]) -> list[int]:
    """Return the depths to fit a curve on, the later half of those that are usable within the
    window; NoFit says why there are none.
    """
    case, _, seed, theory, *_ = blank
    if theory is None:
        raise NoFit("theory predicts no rate for this algorithm, loss or estimator")
    if not theory.power:
        raise NoFit("keeps a floor on this loss")
    leading, above = _errors(results.curve(case, WINDOW), seed)
    signs, _ = _errors(results.curve(case, WINDOW, "support_error"), seed)
    if not leading or not signs:
        raise NoFit(f"no errors and signs of {WINDOW} to find the window from")
    wrong = [0, *(depth for depth, share in signs.items() if share > 0)]
    if wrong[-1] == max(signs):
        share = text.percent(signs[wrong[-1]])
        raise NoFit(f"window not reached: signs wrong in {share} of samples at depth {wrong[-1]}")
    # Depth 0 has no logarithm, and no layer.
    first, last = min(depth for depth in signs if depth > wrong[-1]), max(above, default=0)
    window = {depth for depth in leading if first <= depth <= last}
    if len(window) < FEWEST_DEPTHS:
        available = text.count(len(window), "measured depth")
        raise NoFit(f"window too short: {available} where a fit needs {FEWEST_DEPTHS}")
    depths = [depth for depth in usable if depth in window]
    if len(depths) < FEWEST_DEPTHS:
        available = text.count(len(depths), "depth")
        raise NoFit(f"above rounding and the bound at only {available} of the window")
    return depths[-max(FEWEST_DEPTHS, ceil(len(depths) / 2)) :]


def _slope(
    errors: Mapping[int, float], depths: Sequence[int], linear: bool = False
) -> tuple[float, float]:
    """Fit a line by least squares to ``log(error)`` over the depth T or, if `linear`, to
    ``log(error / T)``.

    Returns its slope, as the change of the natural logarithm per layer, and the largest vertical
    distance of a point from it, in decades. There must be two depths or more, and errors above
    zero.
    """
    height = np.log([errors[depth] for depth in depths]) - (np.log(depths) if linear else 0.0)
    # In closed form around the means: a call of polyfit takes ten times as long.
    depth, middle = np.array(depths) - np.mean(depths), height.mean()
    slope = float(depth @ (height - middle) / (depth @ depth))
    return slope, float(np.abs(height - middle - slope * depth).max() / log(10))


# -- summaries


class Spread(NamedTuple):
    """A middle value, and the ends of a range or an interval around it."""

    value: float
    low: float
    high: float


def spread(values: Iterable[float]) -> Spread:
    """Return the median, least and greatest of values, without those that are NaN; NaN for all
    three if none is left.
    """
    numbers = [value for value in values if value == value] or [nan]
    return Spread(float(statistics.median(numbers)), min(numbers), max(numbers))


def confidence(values: Sequence[float]) -> Spread:
    """Return the mean over seeds, without those that are NaN, with its 95% confidence interval by
    Student's t; of fewer than 3 seeds, see `spread`.
    """
    numbers = np.array([value for value in values if value == value])
    if (n := len(numbers)) < FEWEST_SEEDS:
        return spread(values)
    mean = float(numbers.mean())
    half = stdtrit(n - 1, (1 + CONFIDENCE) / 2) * numbers.std(ddof=1) / sqrt(n)
    return Spread(mean, float(mean - half), float(mean + half))


class Deepest(NamedTuple):
    """The errors at the deepest depth that has any."""

    depth: float
    by_seed: Mapping[int, float]
    #: How many of them stand at the bound.
    at_floor: int

    @property
    def error(self) -> Spread:
        """Their median, least and greatest."""
        return spread(self.by_seed.values())


@dataclass(frozen=True, eq=False)
class Summary:
    """The numbers of an estimator on a case, over that case's `seeds`."""

    case: str
    estimator: str
    status: str
    reason: str
    seeds: int
    #: What `pudle check` found of a plug-in; empty for another estimator.
    check: str
    #: What answers rest on, and the time without compiled kernels.
    measured: Measured
    torch: Line
    #: One for each seed.
    fits: Sequence[Fit]
    #: Time over that of `BASE`, and the deepest depth at which both are timed, where it was taken;
    #: with and without compiled kernels.
    relative_seconds: tuple[Ratio, float]
    relative_torch: tuple[Ratio, float]

    @cached_property
    def deepest(self) -> Deepest:
        """The errors at the deepest depth at which any seed has one; a depth of NaN and no errors
        if no seed has any. Seeds without an error at that depth are left out.
        """
        curve = self.measured.errors
        if not len(curve.spread):
            return Deepest(nan, {}, 0)
        depth = int(curve.spread[-1, 0])
        by_seed = {seed: errors[depth] for seed, errors in curve.by_seed.items() if depth in errors}
        return Deepest(depth, by_seed, int(curve.at_floor[curve.depths == depth].sum()))

    @property
    def gain(self) -> float:
        """How many times as fast kernels make the estimator, at the deepest depth that is timed
        with and without them: NaN if there is none, and about one for an estimator without kernels.
        """
        fast, slow = self.measured.seconds.measured, self.torch.measured
        depth = max(fast.keys() & slow.keys(), default=0)
        return slow[depth] / fast[depth] if depth else nan

    @property
    def theory(self) -> Law | None:
        """What theory predicts."""
        return self.fits[0].theory

    @property
    def fitted(self) -> list[Fit]:
        """The fits of the seeds that have a rate."""
        return [fit for fit in self.fits if fit.rate == fit.rate]

    @property
    def crooked(self) -> bool:
        """Whether the curve of any seed with a rate is not geometric."""
        return any(fit.reason for fit in self.fitted)

    @property
    def rate(self) -> Spread:
        """The fitted rate: its median, least and greatest value over the seeds that have one."""
        return spread(fit.rate for fit in self.fits)

    @property
    def predicted_rate(self) -> Spread:
        """The rate that theory predicts: its median, least and greatest value over the seeds that
        have one.
        """
        return spread(fit.predicted_rate for fit in self.fits)

    @property
    def acceleration(self) -> Spread:
        """The mean ratio of the slope to that of `BASE`, see `confidence`."""
        return confidence([fit.acceleration for fit in self.fits])

    @property
    def window(self) -> tuple[float, float]:
        """The least and the greatest depth of all fits."""
        first = spread(fit.first_depth for fit in self.fits).low
        return first, spread(fit.last_depth for fit in self.fits).high


def summarize(results: Results) -> list[Summary]:
    """Return the numbers of every estimator on every case, in the order of the records; one that is
    not measured yet is there too.
    """
    fits = grouped(fit(results), lambda fitted: (fitted.case, fitted.estimator))
    measured = {
        (source.case, source.estimator): source
        for case in results.measured.values()
        for source in case
    }
    rows = []
    for record in results.records:
        pair = case, estimator = record.case.name, record.estimator
        ratios = []
        for metric in TIMES:
            rounds, base = (
                results.rounds.get((metric, case, spec), NO_ROUNDS) for spec in (estimator, BASE)
            )
            depth = max(rounds.samples.keys() & base.samples.keys(), default=nan)
            ratios.append((rounds.ratio(depth, base, depth), depth))
        rows.append(
            Summary(
                *pair,
                record.status,
                record.reason,
                len(record.case.seeds),
                results.checks.get(estimator, ""),
                measured[pair],
                results.lines.get(("seconds_torch", *pair), NO_LINE),
                fits[pair],
                *ratios,
            )
        )
    return rows


class Guide(NamedTuple):
    """A point of a line that theory predicts for an estimator, labeled by its law."""

    label: str
    estimator: str
    x: float
    y: float


def predicted_slopes(rows: Iterable[Summary]) -> Iterator[Guide]:
    """Yield points of the slopes that theory predicts, twelve for alternating (`BASE`) and twelve
    for backprop (`WINDOW`) where they have a fitted and a predicted rate, from the summary of a
    case; they lie a little above the curve, through the window.
    """
    for row in rows:
        rate, (first, last) = row.predicted_rate.value, row.window
        if row.estimator not in (BASE, WINDOW) or not row.fitted or not rate > 0:
            continue
        curve = row.measured.errors.spread
        inside = curve[(curve[:, 0] >= first) & (curve[:, 0] <= last)]
        if len(inside) > 1:
            anchor, error = inside[0, :2].tolist()
            for depth in np.linspace(anchor, last, 12).tolist():
                # A little above the curve, so that both are seen.
                height = 3 * error * rate ** (depth - anchor)
                height *= depth / anchor if row.theory and row.theory.linear else 1
                yield Guide(str(row.theory), row.estimator, depth, height)
