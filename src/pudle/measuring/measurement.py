"""The scores of one estimator on one case, at all its depths and seeds."""

from __future__ import annotations

import dataclasses
import itertools
import time
import warnings
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch

from ..errors import UnsupportedProblem
from ..estimator import Estimate, GradientEstimator
from ..files import strict
from ..names import make_estimator
from ..references.certified import Reference
from ..workers import failure, keep
from .case import Case
from .scoring import Score, score
from .statuses import BROKEN, worst

if TYPE_CHECKING:
    from .contents import ScoreRecord
    from .store import Store


#: Some rows of a record by field: ``scores`` and ``references``.
Part = dict[str, list[dict[str, Any]]]


def stored_reference(case: Case, seed: int, target: str, store: Store) -> Reference:
    """Return a reference from the store, where it is computed and stored first if it is missing.

    UnsupportedProblem says that the case cannot be scored against the target, even if a case with
    another algorithm can, which shares its reference.
    """
    case.check_target(target)
    stored = store.read_reference(case, seed, target)
    if stored is None:
        stored = case.make_reference(seed, target)
        store.write_reference(case, seed, stored)
    return stored


def store_reference(case: Case, seed: int, target: str, store: Store) -> None:
    """Make sure that a reference is in the store."""
    stored_reference(case, seed, target, store)


def measure(case: Case, estimator: str, store: Store) -> ScoreRecord:
    """Score an estimator (a spec) on a case at all its depths and seeds, and write the record to
    the store.

    Whatever the estimator raises becomes a status with a reason; it never becomes a number. The
    scores of each depth are kept as they come, for `fail_scores` if this process does not live to
    write the record.
    """
    start = time.perf_counter()
    parts = []
    with warnings.catch_warnings():
        # What an estimator advises its caller is no line of a run's log.
        warnings.simplefilter("ignore", UserWarning)
        for part in _parts(case, estimator, store):
            keep(part)
            parts.append(part)
    return _write(case, estimator, store, parts, time.perf_counter() - start)


def fail_scores(
    case: Case, estimator: str, store: Store, status: str, reason: str, parts: Iterable[Part] = ()
) -> ScoreRecord:
    """Write the record of an attempt that ended early: the parts that it kept, and the status for
    every score that lacks.
    """
    parts = list(parts)
    have = {(row["seed"], row["depth"], row["target"]) for part in parts for row in part["scores"]}
    missing = [
        row for row in _places(case, case.seeds, case.targets) if tuple(row.values()) not in have
    ]
    if have and missing:
        reason = f"at depth {missing[0]['depth']}: {reason}"
    return _write(case, estimator, store, [*parts, _without_number(missing, status, reason)], None)


def _places(case: Case, seeds: Iterable[int], targets: Iterable[str]) -> list[dict[str, Any]]:
    """Return seed, depth and target of every score of a case with some seeds and targets."""
    found = itertools.product(seeds, case.depths, targets)
    return [dict(zip(("seed", "depth", "target"), place, strict=True)) for place in found]


def _without_number(places: Iterable[dict[str, Any]], status: str, reason: str) -> Part:
    failed = dataclasses.asdict(Score(status=status, reason=reason)) | {"diagnostics": {}}
    return {"scores": [place | failed for place in places], "references": []}


def _write(
    case: Case, estimator: str, store: Store, parts: Iterable[Part], seconds: float | None
) -> ScoreRecord:
    whole = {
        name: [row for part in parts for row in part[name]] for name in ("scores", "references")
    }
    return store.write(case, estimator, **worst(whole["scores"]), **whole, seconds=seconds)


def _parts(case: Case, estimator: str, store: Store) -> Iterator[Part]:
    """Yield the references of each seed, then the scores of each depth against them."""
    for seed in case.seeds:
        try:
            problem, algorithm = case.make_problem(seed, store.device), case.make_algorithm()
            step = algorithm.step_size(problem)
        except UnsupportedProblem as error:
            # Dataset, loss and algorithm do not fit each other, which is no estimator's fault.
            yield _without_number(_places(case, [seed], case.targets), *failure(error))
            continue
        references = []
        for target in case.targets:
            try:
                references.append(stored_reference(case, seed, target, store))
            except UnsupportedProblem as error:
                yield _without_number(_places(case, [seed], [target]), *failure(error))
        if not references:
            continue
        yield {
            "scores": [],
            "references": [_describe(reference, seed, step) for reference in references],
        }
        for depth, result in zip(
            case.depths, attempt(estimator, problem, algorithm, case.depths), strict=True
        ):
            place = {"seed": seed, "depth": depth}
            rows = [
                place | {"target": reference.target} | _judge(result, reference)
                for reference in references
            ]
            yield {"scores": rows, "references": []}


def _judge(result: Estimate | Score, reference: Reference) -> dict[str, Any]:
    """Return the score of an estimate with its diagnostics; what cannot be scored or stored becomes
    an error.
    """
    if isinstance(result, Score):
        return dataclasses.asdict(result) | {"diagnostics": {}}
    try:
        diagnostics = strict(dict(result.diagnostics))
    except Exception as error:  # noqa: BLE001  # a plug-in may return anything
        reason = (
            f"diagnostics cannot be stored ({failure(error)[1]}): give a mapping from names to"
            " numbers or texts"
        )
        return dataclasses.asdict(Score(status="error", reason=reason)) | {"diagnostics": {}}
    return dataclasses.asdict(score(result, reference)) | {"diagnostics": diagnostics}


def attempt(
    estimator: str | GradientEstimator, problem: Any, algorithm: Any, depths: tuple[int, ...]
) -> Iterator[Estimate | Score]:
    """Yield one estimate per depth; after a failure, the same failed score for every depth that is
    left.

    After a refusal the depths that are left get a sweep of their own, because an active system can
    be singular at small depths only.
    """
    left = depths
    while left:
        try:
            made = make_estimator(estimator) if isinstance(estimator, str) else estimator
            estimates = iter(made.sweep(problem, algorithm, left))
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
            failed = 1 if status == "unsupported" else len(left)
            yield from [Score(status=status, reason=reason)] * failed
            left = left[failed:]


def _describe(reference: Reference, seed: int, step: float) -> dict[str, Any]:
    """Return a reference's certificate as plain values, with the contraction factor rho that it
    implies for the step.
    """
    certificate = reference.certificate
    # With a large step the fastest direction overshoots, and its error can fall more slowly than
    # that of the slowest one.
    rho = max(
        abs(1 - step * value)
        for value in (certificate.smallest_eigenvalue, certificate.largest_eigenvalue)
    )
    described = {"seed": seed} | {
        name: getattr(reference, name) for name in ("target", "status", "reason", "bound")
    }
    norm = float(torch.linalg.norm(reference.gradient))
    described |= {"gradient_norm": norm, "step": step, "rho": rho if rho <= 1 else None}
    return described | dataclasses.asdict(certificate)
