"""The scores of one estimator on one case, at all its depths and seeds."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from ..estimator import Estimate
from ..references import certified
from ..references.certified import Reference
from ..registry import make_estimator
from .case import Case
from .scoring import Score, score
from .statuses import BROKEN, failure, worst

if TYPE_CHECKING:
    # Only for annotations: how records are stored does not outdate them.
    from .store import Store


def stored_reference(case: Case, seed: int, target: str, store: Store) -> Reference:
    """Return a reference from the store, where it is computed and stored first if it is missing."""
    stored = store.read_reference(case, seed, target)
    if stored is None:
        stored = certified.reference(case.make_problem(seed), target, case.make_algorithm())
        store.write_reference(case, seed, stored)
    return stored


def measure(case: Case, estimator: str, store: Store) -> dict[str, Any]:
    """Score an estimator (a spec) on a case at all its depths and seeds, and write the record to the store.

    Whatever the estimator raises becomes a status with a reason; it never becomes a number.
    """
    start = time.perf_counter()
    scores: list[dict[str, Any]] = []
    described: list[dict[str, Any]] = []
    for seed in case.seeds:
        problem, algorithm = case.make_problem(seed, store.device), case.make_algorithm()
        step = algorithm.step_size(problem)
        references = [stored_reference(case, seed, target, store) for target in case.targets]
        described += [_describe(reference, seed, step) for reference in references]
        for depth, result in zip(case.depths, attempt(estimator, problem, algorithm, case.depths), strict=True):
            for reference in references:
                row = {"seed": seed, "depth": depth, "target": reference.target}
                row |= dataclasses.asdict(score(result, reference) if isinstance(result, Estimate) else result)
                scores.append(row | {"diagnostics": dict(getattr(result, "diagnostics", {}))})
    seconds = time.perf_counter() - start
    return store.write(case, estimator, {**worst(scores), "scores": scores, "references": described, "seconds": seconds})


def fail_scores(case: Case, estimator: str, store: Store, status: str, reason: str) -> dict[str, Any]:
    """Write a record without scores, which says what became of the attempt."""
    content: dict[str, Any] = {"status": status, "reason": reason, "scores": [], "references": [], "seconds": None}
    return store.write(case, estimator, content)


def attempt(spec: str, problem: Any, algorithm: Any, depths: tuple[int, ...]) -> Iterator[Estimate | Score]:
    """Yield one estimate per depth; after a failure, the same failed score for every depth that is left.

    After a refusal the depths that are left get a sweep of their own, because an active system can be singular at small
    depths only.
    """
    left = depths
    while left:
        try:
            estimates = iter(make_estimator(spec).sweep(problem, algorithm, left))
            while left:
                estimate = next(estimates)
                if not isinstance(estimate, Estimate):
                    raise TypeError(f"sweep gave a {type(estimate).__name__}, not an Estimate")
                yield estimate
                left = left[1:]
        except Exception as error:  # noqa: BLE001  # anything a plug-in raises is a result to report, with its reason
            status, reason = failure(error)
            if isinstance(error, StopIteration):
                reason = f"sweep ended before depth {left[0]}"
            elif status in BROKEN:
                reason = f"at depth {left[0]}: {reason}"
            failed = 1 if status == "unsupported" else len(left)
            yield from [Score(status=status, reason=reason)] * failed
            left = left[failed:]


def _describe(reference: Reference, seed: int, step: float) -> dict[str, Any]:
    """Return a reference's certificate as plain values, with the contraction factor rho that it implies for the step."""
    certificate = reference.certificate
    # With a large step the fastest direction overshoots, and its error can fall more slowly than that of the slowest one.
    rho = max(abs(1 - step * value) for value in (certificate.smallest_eigenvalue, certificate.largest_eigenvalue))
    described = {"seed": seed} | {name: getattr(reference, name) for name in ("target", "status", "reason", "bound")}
    norm = float(torch.linalg.norm(reference.gradient))
    described |= {"gradient_norm": norm, "step": step, "rho": rho if rho <= 1 else None}
    return described | dataclasses.asdict(certificate)
