"""The scores of one estimator on one case, at all its depths and seeds."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from ..errors import MissingDependency, UnsupportedProblem
from ..estimator import Estimate
from ..references import certified
from ..references.certified import Reference
from ..registry import make_estimator
from .case import Case
from .scoring import Score, score
from .statuses import first_line, worst

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
                row: dict[str, Any] = {"seed": seed, "depth": depth, "target": reference.target}
                if isinstance(result, Estimate):
                    row |= dataclasses.asdict(score(result, reference)) | {"diagnostics": dict(result.diagnostics)}
                else:
                    row |= dataclasses.asdict(result) | {"diagnostics": {}}
                scores.append(row)
    status = worst(row["status"] for row in scores)
    content = {
        "status": status,
        "reason": next((row["reason"] for row in scores if row["status"] == status), ""),
        "scores": scores,
        "references": described,
        "seconds": time.perf_counter() - start,
    }
    return store.write(case, estimator, content)


def fail_scores(case: Case, estimator: str, store: Store, status: str, reason: str) -> dict[str, Any]:
    """Write a record without scores, which says what became of the attempt."""
    content: dict[str, Any] = {"status": status, "reason": reason, "scores": [], "references": [], "seconds": None}
    return store.write(case, estimator, content)


def attempt(spec: str, problem: Any, algorithm: Any, depths: tuple[int, ...]) -> Iterator[Estimate | Score]:
    """Yield one estimate per depth; after a failure, the same failed score for every depth that is left.

    After a refusal the depths that are left get a sweep of their own, because an active system can be singular at small
    depths only.
    """
    failure: Score | None = None
    estimates = None
    for index, depth in enumerate(depths):
        if failure is None:
            try:
                if estimates is None:
                    estimates = iter(make_estimator(spec).sweep(problem, algorithm, depths[index:]))
                estimate = next(estimates)
                if not isinstance(estimate, Estimate):
                    raise TypeError(f"sweep gave a {type(estimate).__name__}, not an Estimate")
                yield estimate
                continue
            except StopIteration:
                failure = Score(status="error", reason=f"sweep ended before depth {depth}")
            except UnsupportedProblem as error:
                estimates = None
                yield Score(status="unsupported", reason=first_line(error))
                continue
            except MissingDependency as error:
                failure = Score(status="skipped", reason=first_line(error))
            except Exception as error:  # noqa: BLE001  # anything a plug-in raises is a result to report, with its reason
                reason = f"at depth {depth}: {type(error).__name__}: {first_line(error)}"
                failure = Score(status="out-of-memory" if _out_of_memory(error) else "error", reason=reason)
        yield failure


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error)


def _describe(reference: Reference, seed: int, step: float) -> dict[str, Any]:
    """Return a reference's certificate as plain values, with the contraction factor rho that it implies for the step."""
    rho = 1 - step * reference.certificate.smallest_eigenvalue
    return {
        "seed": seed,
        "target": reference.target,
        "status": reference.status,
        "reason": reference.reason,
        "bound": reference.bound,
        "gradient_norm": float(torch.linalg.norm(reference.gradient)),
        "step": step,
        "rho": rho if 0 <= rho <= 1 else None,
        **dataclasses.asdict(reference.certificate),
    }
