"""The scores of one estimator on one case, at all its depths and seeds."""

import dataclasses
import itertools
import time
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

from ..errors import UnsupportedProblem
from ..estimator import Estimate, GradientEstimator
from ..files import strict
from ..names import make_estimator
from ..references.certified import MINIMIZER_TARGETS, Reference
from ..workers import failure, keep
from .case import Case
from .contents import BROKEN, Row, ScoreRecord, worst
from .scoring import Score, failed, score
from .store import Store

#: Some rows of a record, of its field ``scores`` or ``references``.
Part = tuple[str, list[Row]]
#: What a score is of, beside the case and the estimator.
PLACE = ("seed", "depth", "target")


def stored_reference(case: Case, seed: int, target: str, store: Store) -> Reference:
    """Return a reference from the store, where it is computed and stored first if it is missing.

    UnsupportedProblem says that the case cannot be scored against the target, even if a case with
    another algorithm can, which shares its reference.
    """
    rule = case.make_algorithm().thresholding
    if target in MINIMIZER_TARGETS and not rule.proximal:
        raise UnsupportedProblem(
            f"{rule.name} thresholding leads to no minimizer of the inner problem, which"
            f" target={target!r} rests on: use the target gstar, gtilde or limit"
        )
    stored = store.read_reference(case, seed, target)
    if stored is None:
        stored = case.make_reference(seed, target)
        store.write_reference(case, seed, stored)
    return stored


def measure(case: Case, estimator: str, store: Store) -> ScoreRecord:
    """Score an estimator (a spec) on a case at all its depths and seeds, and write the record to
    the store.

    Whatever the estimator raises becomes a status with a reason; it never becomes a number. The
    scores of each depth are kept as they come, for `write_scores` if this process does not live to
    write the record.
    """
    start, status, reason = time.perf_counter(), "ok", ""
    parts = []
    with warnings.catch_warnings():
        # What an estimator advises its caller is no line of a run's log.
        warnings.simplefilter("ignore", UserWarning)
        try:
            for part in _parts(case, estimator, store):
                keep(part)
                parts.append(part)
        except UnsupportedProblem as error:
            # Dataset, loss, algorithm and targets do not fit, which is no estimator's fault.
            status, reason = failure(error)
    return write_scores(case, estimator, store, status, reason, parts, time.perf_counter() - start)


def write_scores(
    case: Case,
    estimator: str,
    store: Store,
    status: str,
    reason: str,
    parts: Iterable[Part] = (),
    seconds: float | None = None,
) -> ScoreRecord:
    """Write a record of the parts that an attempt kept, with the status for every score that
    lacks.
    """
    content: Row = {"scores": [], "references": []}
    for name, rows in parts:
        content[name] += rows
    have = {tuple(map(row.get, PLACE)) for row in content["scores"]}
    places = itertools.product(case.seeds, case.depths, case.targets)
    missing = [place for place in places if place not in have]
    if have and missing:
        reason = f"at depth {missing[0][1]}: {reason}"
    none = failed(status, reason)
    content["scores"] += [_row(place, none, none) for place in missing]
    made, algorithm = make_estimator(estimator), case.make_algorithm()
    return store.write(
        "score",
        case,
        estimator,
        seconds=seconds,
        computes=made.computes,
        consistent_for=made.consistent_for,
        proximal=algorithm.thresholding.proximal,
        differentiable=algorithm.differentiable,
        **content,
        **worst(content["scores"]),
    )


def _parts(case: Case, estimator: str, store: Store) -> Iterator[Part]:
    """Yield the references of each seed, then the scores of each depth against them."""
    for seed in case.seeds:
        problem, algorithm = case.make_problem(seed, store.device), case.make_algorithm()
        step = algorithm.step_size(problem)
        truths: dict[str, Reference | Score] = {}
        for target in case.targets:
            try:
                truths[target] = stored_reference(case, seed, target, store)
            except UnsupportedProblem as error:
                refusal, truths[target] = error, failed(*failure(error))
        references = [truth for truth in truths.values() if isinstance(truth, Reference)]
        if not references:
            raise refusal
        yield "references", [_described(each, seed, step) for each in references]
        results = attempt(make_estimator(estimator), problem, algorithm, case.depths)
        for depth, result in zip(case.depths, results, strict=True):
            yield (
                "scores",
                [_row((seed, depth, target), result, truths[target]) for target in truths],
            )


def _row(place: Any, result: Estimate | Score, truth: Reference | Score) -> Row:
    """Return a row of scores; what cannot be scored or stored becomes an error."""
    diagnostics = {}
    if isinstance(truth, Score):
        result = truth
    elif isinstance(result, Estimate):
        try:
            diagnostics = strict(dict(result.diagnostics))
            result = score(result, truth)
        except Exception as error:  # noqa: BLE001  # a plug-in may return anything
            result = failed(
                "error",
                f"diagnostics cannot be stored ({failure(error)[1]}): give a mapping from names to"
                " numbers or texts",
            )
    where = dict(zip(PLACE, place, strict=True))
    return where | dataclasses.asdict(result) | {"diagnostics": diagnostics}


def attempt(
    estimator: GradientEstimator, problem: Any, algorithm: Any, depths: tuple[int, ...]
) -> Iterator[Estimate | Score]:
    """Yield one estimate per depth; after a failure, the same failed score for every depth that is
    left.

    After a refusal the depths that are left get a sweep of their own, because an active system can
    be singular at small depths only.
    """
    left = depths
    while left:
        try:
            estimates = iter(estimator.sweep(problem, algorithm, left))
            while left:
                estimate = next(estimates)
                if not isinstance(estimate, Estimate):
                    raise TypeError(f"sweep gave a {type(estimate).__name__}, not an Estimate")
                yield estimate
                left = left[1:]
        except (Exception, SystemExit) as error:  # noqa: BLE001
            # Anything a plug-in raises is a result, with its reason.
            status, reason = failure(error)
            if isinstance(error, StopIteration):
                reason = f"sweep ended before depth {left[0]}"
            elif status in BROKEN:
                reason = f"at depth {left[0]}: {reason}"
            number = 1 if status == "unsupported" else len(left)
            yield from [failed(status, reason)] * number
            left = left[number:]


def _described(reference: Reference, seed: int, step: float) -> Row:
    """Return a reference's certificate as plain values, with the contraction factor rho that it
    implies for the step.
    """
    certificate = reference.certificate
    # With a large step the fastest direction overshoots, and its error can fall more slowly than
    # that of the slowest one.
    extremes = (certificate.smallest_eigenvalue, certificate.largest_eigenvalue)
    rho = max(abs(1 - step * value) for value in extremes)
    return {
        "seed": seed,
        **{name: getattr(reference, name) for name in ("target", "status", "reason", "bound")},
        "gradient_norm": float(reference.gradient.norm()),
        "step": step,
        "rho": rho if rho <= 1 else None,
        **dataclasses.asdict(certificate),
    }
