"""The scores of one estimator on one case, at all its depths and seeds."""

from __future__ import annotations

import dataclasses
import itertools
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

import torch
from msgspec import Struct
from torch import Tensor

from ...algorithms import Algorithm
from ...errors import InvalidArgument, UnsupportedProblem
from ...estimator import Estimate, GradientEstimator
from ...files import json_content
from ...problems import Problem
from ...references.probe import why_another
from ...references.records import Reference
from ...workers import Outcome, failure, keep
from ..case import Case
from ..naming import slug
from ..scored_path import Returned, require_scored
from ..scoring import Score, failed, score
from ..stored_files import (
    BROKEN,
    Error,
    MeasurementStatus,
    Plain,
    Record,
    Share,
    Size,
    Status,
    Whole,
    worst,
)
from .reference import GRADIENTS, CaseReference
from .result import EstimatorResult

if TYPE_CHECKING:
    from ..store import Store


class ScoreRow(Struct, kw_only=True):
    """A `pudle.Score` at a seed, a depth and a target; what has no number is None."""

    seed: Whole
    depth: Whole
    target: str
    relative_error: Error | None = None
    absolute_error: Error | None = None
    cosine_error: Error | None = None
    code_error: Error | None = None
    support_error: Share | None = None
    at_floor: bool = False
    unfinished: Whole = 0
    status: Status
    reason: str
    diagnostics: dict[str, Plain] = {}

    @property
    def measurement_status(self) -> MeasurementStatus:
        """Its status and its reason."""
        return MeasurementStatus(self.status, self.reason)


class ReferenceRow(Struct, kw_only=True):
    """The certificate of a reference, with the step of the case's algorithm and the contraction
    factor rho that follows; what is not finite is None.
    """

    seed: Whole
    target: str
    status: str
    reason: str
    bound: Size | None = None
    gradient_norm: Size | None = None
    step: Size | None = None
    rho: Share | None = None
    samples: Size | None = None
    uncertified: Size | None = None
    kkt_residual: Size | None = None
    smallest_eigenvalue: float | None = None
    largest_eigenvalue: float | None = None
    condition_number: float | None = None
    dual_margin: float | None = None
    smallest_amplitude: float | None = None
    code_error: Size | None = None
    zero_codes: Share | None = None
    iterations: Size | None = None
    modulus: Size | None = None
    #: Numbers of the problem, see `pudle.references.probe`.
    probe: list[float | None] = []

    @property
    def modulus_unchecked(self) -> bool:
        """Whether a modulus is claimed, and the smallest curvature is unknown."""
        return self.modulus is not None and self.smallest_eigenvalue is None

    @classmethod
    def of(cls, reference: Reference, seed: int, step: float) -> ReferenceRow:
        """Return the row of a reference, with the `step` of the case's algorithm and the
        contraction factor ``rho = max(|1 - step lambda_min|, |1 - step lambda_max|)``, None where
        an eigenvalue is unknown or it exceeds 1.
        """
        certificate = reference.certificate
        # With a large step the fastest direction overshoots, and its error can fall more slowly
        # than that of the slowest one.
        smallest, largest = certificate.smallest_eigenvalue, certificate.largest_eigenvalue
        rho = math.inf
        if smallest is not None:
            rho = max(abs(1 - step * smallest), abs(1 - step * largest))
        return cls(
            seed=seed,
            target=reference.target,
            status=reference.status,
            reason=reference.reason,
            bound=reference.bound,
            gradient_norm=float(reference.gradient.norm()),
            step=step,
            rho=rho if rho <= 1 else None,
            probe=[*reference.probe],
            **dataclasses.asdict(certificate),
        )


class ScoreRecord(Record, kw_only=True):
    """The scores of one estimator on one case, and the certificates of their references."""

    identity = property(attrgetter("case.name", "estimator"))
    case: Case
    estimator: str
    computes: str
    consistent_for: list[str] | None
    #: Whether the case's algorithm leads to the minimizer, as others do, and whether its iterations
    #: can be differentiated.
    proximal: bool = True
    differentiable: bool = True
    scores: list[ScoreRow]
    references: list[ReferenceRow]

    def at(self, depth: int, target: str | None = None) -> MeasurementStatus:
        """Return the worst status, with its reason, of all seeds at one depth, against one target
        or all of them; that of the whole record where it has no such depth.

        An estimator that diverges at a large depth still has a time and a peak memory at smaller
        ones.
        """
        rows = [
            row.measurement_status
            for row in self.scores
            if row.depth == depth and target in (None, row.target)
        ]
        return worst(rows or [MeasurementStatus(self.status, self.reason)])


class ScoredRows(NamedTuple):
    """The rows that one depth, or the references of one seed, add to a record."""

    scores: Sequence[ScoreRow] = ()
    references: Sequence[ReferenceRow] = ()


@dataclass(frozen=True)
class Scores(EstimatorResult[ScoreRecord]):
    """The scores of an estimator (a spec) on a case."""

    case: Case
    estimator: str

    rooms = (*GRADIENTS, "measuring/results/score", "measuring/scored_path", "measuring/scoring")
    record = ScoreRecord

    def label(self, case_labels: Mapping[str, str]) -> str:
        return f"{self.estimator} on {case_labels[self.case.name]}"

    @property
    def identity(self) -> Mapping[str, object]:
        return {"case": self.case, "estimator": self.estimator}

    def context(self, store: Store) -> object:
        return store.device, store.kernels, self.identity, store.profile

    def file(self, key: str) -> str:
        return f"{self.case.name}/{slug(self.estimator)}-{key}.json"

    @property
    def references(self) -> Sequence[CaseReference]:
        places = itertools.product([self.case], self.case.seeds, self.case.targets)
        return list(itertools.starmap(CaseReference, places))

    def measure(
        self,
        store: Store,
        failed_references: Mapping[CaseReference, MeasurementStatus] | None = None,
    ) -> ScoreRecord:
        """Score the estimator at all depths and seeds, against all targets, write the record, and
        return it; references that the store lacks are computed and written too.

        `failed_references` are not computed again: the scores against them get the status and the
        reason given. Whatever the estimator raises becomes a status with a reason in `attempt`, and
        never a number. The scores of each depth are handed to the parent process as they come
        (`keep`), for `write_failure` if this process does not live to write the record. Warnings of
        users are hidden meanwhile. Draws have seeds of their own: no global generator is set.
        """
        outcome, parts = MeasurementStatus(), []
        with warnings.catch_warnings():
            # What an estimator advises its caller is no line of a run's log.
            warnings.simplefilter("ignore", UserWarning)
            try:
                for part in self._parts(store, failed_references or {}):
                    keep(part)
                    parts.append(part)
            except UnsupportedProblem as error:
                # Dataset, loss, algorithm and targets do not fit, which is no estimator's fault.
                outcome = MeasurementStatus(*failure(error))
        return self._write_parts(store, outcome, parts)

    def write_failure(self, store: Store, outcome: Outcome[object]) -> ScoreRecord:
        """Write, and return, the record of the parts that an attempt kept, with its status for
        every score that lacks.
        """
        return self._write_parts(
            store, MeasurementStatus(outcome.status, outcome.reason), outcome.parts
        )

    def _write_parts(
        self, store: Store, outcome: MeasurementStatus, parts: Iterable[ScoredRows]
    ) -> ScoreRecord:
        """Write, and return, the record of some parts; every score that they lack gets the status
        of the outcome, and the record has the worst status of its scores.

        If some scores are there, the reason names the depth of the first that lacks.
        """
        parts = list(parts)
        scores = [row for part in parts for row in part.scores]
        have = {(row.seed, row.depth, row.target) for row in scores}
        places = itertools.product(self.case.seeds, self.case.depths, self.case.targets)
        missing = [place for place in places if place not in have]
        status, reason = outcome
        if have and missing:
            reason = f"at depth {missing[0][1]}: {reason}"
        scores += [_row(*place, failed(status, reason)) for place in missing]
        estimator, algorithm = self.estimator_object, self.case.make_algorithm()
        status, reason = worst(row.measurement_status for row in scores)
        return self.write(
            store,
            computes=estimator.computes,
            consistent_for=estimator.consistent_for,
            proximal=algorithm.thresholding.proximal,
            differentiable=algorithm.differentiable,
            scores=scores,
            references=[row for part in parts for row in part.references],
            status=status,
            reason=reason,
        )

    def _parts(
        self, store: Store, failed_references: Mapping[CaseReference, MeasurementStatus]
    ) -> Iterator[ScoredRows]:
        """Yield the references of each seed, then the scores of each depth against them.

        Computes, and writes to the store, references that it lacks. A target that does not fit, or
        whose reference failed, gives scores without a number; UnsupportedProblem is raised where
        none of the targets fits. Where the problem is not the one that a stored reference was
        computed for, the scores against it are an ``error``.
        """
        case = self.case
        for seed in case.seeds:
            truths = self._truths(store, seed, failed_references)
            references = [truth for truth in truths.values() if isinstance(truth, Reference)]
            if not references:
                # There is nothing to compare an estimate with, so that none is asked for.
                yield ScoredRows(
                    [
                        _row(seed, depth, target, failure_of_target)
                        for depth in case.depths
                        for target, failure_of_target in truths.items()
                        if isinstance(failure_of_target, Score)
                    ]
                )
                continue
            problem, algorithm = case.make_problem(seed, store.device), case.make_algorithm()
            step = algorithm.step_size(problem)
            yield ScoredRows(
                references=[ReferenceRow.of(truth, seed, step) for truth in references]
            )
            # Most references of a problem have the same probe.
            target_of_probe = {tuple(truth.probe): truth.target for truth in references}
            for known, target in target_of_probe.items():
                if why := why_another(known, problem, case.probing_algorithm(target)):
                    of_another_problem = failed("error", why)
                    for truth in references:
                        if tuple(truth.probe) == known:
                            truths[truth.target] = of_another_problem
            results = attempt(self.estimator_object, problem, algorithm, case.depths)
            for depth, result in zip(case.depths, results, strict=True):
                yield ScoredRows(
                    [_row(seed, depth, target, result, truth) for target, truth in truths.items()]
                )

    def _truths(
        self,
        store: Store,
        seed: int,
        failed_references: Mapping[CaseReference, MeasurementStatus],
    ) -> dict[str, Reference | Score]:
        """Return the reference of a seed by target, or why there is none: a score without a number.

        Computes, and writes to the store, references that it lacks, but none that failed before.
        UnsupportedProblem is raised where no target fits.
        """
        truths: dict[str, Reference | Score] = {}
        refusals = []
        for target in self.case.targets:
            reference = CaseReference(self.case, seed, target)
            if reference in failed_references:
                status, reason = failed_references[reference]
                truths[target] = failed(status, f"the reference of seed {seed} failed: {reason}")
                continue
            try:
                truths[target] = reference.measure(store)
            except UnsupportedProblem as error:
                refusals.append(error)
                truths[target] = failed(*failure(error))
        if len(refusals) == len(truths):
            raise refusals[-1]
        return truths


def _row(
    seed: int,
    depth: int,
    target: str,
    result: Estimate | Score,
    truth: Reference | Score | None = None,
) -> ScoreRow:
    """Return a row of scores of a result, an estimate or a score that failed, against a reference.

    A `truth` that is a score without a number takes the place of the result. An estimate without
    `truth` is none to be given. What cannot be scored, or diagnostics that JSON cannot hold, become
    the status ``error``.
    """
    diagnostics: dict[str, Plain] = {}
    if isinstance(truth, Score):
        result = truth
    elif isinstance(result, Estimate) and truth:
        try:
            diagnostics = json_content(dict(result.diagnostics))
            result = score(result, truth)
        except Exception as error:  # noqa: BLE001  # a plug-in may return anything
            result = failed(
                "error",
                f"diagnostics cannot be stored ({failure(error)[1]}): give a mapping from names to"
                " numbers or texts",
            )
    values = dataclasses.asdict(result)
    return ScoreRow(seed=seed, depth=depth, target=target, diagnostics=diagnostics, **values)


def attempt(
    estimator: GradientEstimator,
    problem: Problem,
    algorithm: Algorithm,
    depths: tuple[int, ...],
) -> Iterator[Estimate | Score]:
    """Yield one estimate per depth, in order; after a failure, the same failed score for every
    depth that is left.

    Errors of the estimator are not raised, sys.exit included. After a refusal (``unsupported``)
    only that depth fails, and those that are left get a sweep of their own, because an active
    system can be singular at small depths only. The first depth is checked: see `_check_first`.
    """
    remaining, is_first = depths, True
    while remaining:
        try:
            estimates = iter(estimator.sweep(problem, algorithm, remaining))
            while remaining:
                estimate = next(estimates)
                if not isinstance(estimate, Estimate):
                    raise TypeError(f"sweep gave a {type(estimate).__name__}, not an Estimate")
                if is_first:
                    _check_first(estimator, problem, algorithm, remaining, estimate)
                yield estimate
                remaining, is_first = remaining[1:], False
        except (Exception, SystemExit) as error:  # noqa: BLE001
            # Anything a plug-in raises is a result, with its reason.
            status, reason = failure(error)
            if isinstance(error, StopIteration):
                reason = f"sweep ended before depth {remaining[0]}"
            elif status in BROKEN:
                reason = f"at depth {remaining[0]}: {reason}"
            number = 1 if status == "unsupported" else len(remaining)
            yield from [failed(status, reason)] * number
            remaining, is_first = remaining[number:], False


def _check_first(
    estimator: GradientEstimator,
    problem: Problem,
    algorithm: Algorithm,
    depths: Sequence[int],
    first: Estimate,
) -> None:
    """Refuse, by InvalidArgument, an estimator whose gradient at the first depth of a sweep changes
    when it is asked again, unless it is stochastic, or is not the one that `estimate` returns.
    """

    gradient = first.gradient
    if not isinstance(gradient, Tensor) or not gradient.is_floating_point():
        # What is no gradient is refused where it is scored.
        return

    def sweep(at: Problem, depths: Sequence[int] = depths) -> Estimate:
        return next(iter(estimator.sweep(at, algorithm, depths)))

    if estimator.computes != "stochastic":
        # Only the same sweep rounds alike: one of several depths may take another way.
        same = [first] if len(depths) == 1 else []
        while len(same) < 2:
            same.append(sweep(problem, depths[:1]))
        _check_repeats(*same)
    returned = Returned.of(estimator.estimate(problem, algorithm, depths[0]))
    require_scored(estimator, problem, algorithm, depths[0], returned, sweep)


def _check_repeats(estimate: Estimate, repeated: Estimate) -> None:
    """Refuse, by InvalidArgument, two estimates of the same whose gradients differ by more than the
    square root of the rounding unit, relatively.
    """
    gradient = estimate.gradient
    moved = float((gradient - repeated.gradient).norm() / gradient.norm())
    if moved > torch.finfo(gradient.dtype).eps ** 0.5:
        raise InvalidArgument(
            f"its gradient changes by {moved:.1e} when it is asked again: draw from a seed of its"
            ' own, or set computes = "stochastic"'
        )
