"""Fill the store: data, problem, sweep, scores; each (case, estimator) in a process that can be killed without harm."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from typing import Any

import torch
from pebble import ProcessExpired, ProcessPool

from ..errors import InvalidArgument, MissingDependency, UnsupportedProblem
from ..estimator import Estimate
from ..references.certified import Reference, reference
from ..registry import list_experiments, make_estimator
from .case import Case, Selection
from .experiment import ExperimentResult
from .provenance import provenance
from .scoring import STATUSES, Score, score
from .store import Store
from .surfaces import jacobian_error, window_surface

#: Statuses that say something broke, as opposed to a finding; a later run tries these again.
BROKEN = ("timeout", "out-of-memory", "error")


def worst(statuses: Iterator[str] | list[str]) -> str:
    """Return the worst of some statuses."""
    return max(statuses, key=STATUSES.index, default="ok")


def at_depth(content: dict, depth: int) -> dict[str, str]:
    """Return status and reason of a record at one depth: what diverges later has a time and a peak before.

    A depth without scores has those of the whole record.
    """
    rows = [row for row in content["scores"] if row["depth"] == depth] or [content]
    status = worst([row["status"] for row in rows])
    return {"status": status, "reason": next(row["reason"] for row in rows if row["status"] == status)}


def certified_reference(case: Case, seed: int, target: str, store: Store) -> Reference:
    """Return a reference from the store, computing it first where it is missing."""
    found = store.read_reference(case, seed, target)
    if found is None:
        found = reference(case.make_problem(seed), target, case.make_algorithm())
        store.write_reference(case, seed, found)
    return found


def measure(case: Case, estimator: str, store: Store, commit: str = "", dirty: bool = False) -> dict[str, Any]:
    """Score an estimator (a spec) on a case at all its depths and seeds, and write the record to the store.

    Whatever the estimator raises becomes a status with a reason; it never becomes a number.
    """
    start = time.perf_counter()
    scores: list[dict[str, Any]] = []
    references: list[dict[str, Any]] = []
    for seed in case.seeds:
        problem, algorithm = case.make_problem(seed, store.device), case.make_algorithm()
        step = algorithm.step_size(problem)
        truths = [certified_reference(case, seed, target, store) for target in case.targets]
        references += [_describe(truth, seed, step) for truth in truths]
        estimates = _attempt(estimator, problem, algorithm, case.depths)
        for depth, outcome in zip(case.depths, estimates, strict=True):
            for truth in truths:
                result = outcome if isinstance(outcome, Score) else score(outcome, truth)
                diagnostics = {} if isinstance(outcome, Score) else dict(outcome.diagnostics)
                row = {"seed": seed, "depth": depth, "target": truth.target, **dataclasses.asdict(result)}
                scores.append(row | {"diagnostics": diagnostics})
    status = worst([row["status"] for row in scores])
    content = {
        "status": status,
        "reason": next((row["reason"] for row in scores if row["status"] == status), ""),
        "scores": scores,
        "references": references,
        "seconds": time.perf_counter() - start,
        "provenance": provenance(store.device, commit, dirty),
    }
    return store.write(case, estimator, content)


def record_failure(
    case: Case, estimator: str, store: Store, status: str, reason: str, commit: str = "", dirty: bool = False
) -> dict[str, Any]:
    """Write a record that holds no scores, only what became of the attempt."""
    content: dict[str, Any] = {"status": status, "reason": reason, "scores": [], "references": [], "seconds": None}
    return store.write(case, estimator, content | {"provenance": provenance(store.device, commit, dirty)})


def measure_surfaces(case: Case, windows: tuple[int, ...], store: Store) -> None:
    """Store the error over (depth, window) and the unrolled Jacobian's error over depth, both on a case's first seed.

    A case that has no such surface keeps the reason in place of the rows.
    """
    seed = case.seeds[0]
    problem, algorithm = case.make_problem(seed), case.make_algorithm()
    truth = certified_reference(case, seed, case.targets[0], store)
    surfaces: dict[str, Callable[[], Sequence[Any]]] = {
        "window_surface": lambda: window_surface(problem, algorithm, case.depths, windows, truth),
        "jacobian_error": lambda: jacobian_error(problem, algorithm, case.depths, truth=truth),
    }
    for kind, compute in surfaces.items():
        rows, reason = [], ""
        try:
            rows = [dataclasses.asdict(row) for row in compute()]
        except (InvalidArgument, UnsupportedProblem) as refusal:
            reason = _line(refusal)
        store.write_artifact(kind, case, windows, {"seed": seed, "rows": rows, "reason": reason})


def carry_out(name: str, store: Store, commit: str = "", dirty: bool = False) -> dict[str, Any]:
    """Carry an experiment out and write its record; what was begun and interrupted goes on from where it stopped.

    Whatever it raises becomes a status with a reason.
    """
    start = time.perf_counter()
    folder = store.experiment_path(name).with_suffix("")
    try:
        outcome = list_experiments()[name].run(folder, store.device)
    except MissingDependency as error:
        outcome = ExperimentResult([], status="skipped", reason=_line(error))
    except UnsupportedProblem as error:
        outcome = ExperimentResult([], status="unsupported", reason=_line(error))
    except Exception as error:  # noqa: BLE001  # whatever breaks in one experiment is a result to report, with its reason
        outcome = ExperimentResult([], status="error", reason=f"{type(error).__name__}: {_line(error)}")
    content = {"seconds": time.perf_counter() - start, "provenance": provenance(store.device, commit, dirty)}
    record = store.write_experiment(name, outcome, content)
    if outcome.status not in BROKEN:
        shutil.rmtree(folder, ignore_errors=True)
    return record


def look_up(case: Case, estimator: str, store: Store) -> dict[str, Any]:
    """Return the record of an estimator on a case, measuring it here where it is missing."""
    found = store.read(case, estimator)
    return measure(case, estimator, store) if found is None else found


def _attempt(spec: str, problem: Any, algorithm: Any, depths: tuple[int, ...]) -> Iterator[Estimate | Score]:
    """Yield one estimate per depth; after a failure, the same failed score for every depth that is left.

    A refusal is no failure of that kind: an active system can be singular at small depths only, so that the depths that are
    left get a sweep of their own.
    """
    failure: Score | None = None
    estimates = None
    for index, depth in enumerate(depths):
        if failure is None:
            try:
                if estimates is None:
                    estimates = iter(make_estimator(spec).sweep(problem, algorithm, depths[index:]))
                outcome = next(estimates)
                if not isinstance(outcome, Estimate):
                    raise TypeError(f"sweep gave a {type(outcome).__name__}, not an Estimate")
                yield outcome
                continue
            except StopIteration:
                failure = Score(status="error", reason=f"sweep ended before depth {depth}")
            except UnsupportedProblem as error:
                estimates = None
                yield Score(status="unsupported", reason=_line(error))
                continue
            except MissingDependency as error:
                failure = Score(status="skipped", reason=_line(error))
            except (MemoryError, torch.OutOfMemoryError) as error:
                failure = Score(status="out-of-memory", reason=f"at depth {depth}: {_line(error)}")
            except Exception as error:  # noqa: BLE001  # anything a plug-in raises is a result to report, with its reason
                full = "can't allocate memory" in str(error)
                reason = f"at depth {depth}: {type(error).__name__}: {_line(error)}"
                failure = Score(status="out-of-memory" if full else "error", reason=reason)
        yield failure


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0]


def _describe(truth: Reference, seed: int, step: float) -> dict[str, Any]:
    """Return a reference's certificate as plain values, with the contraction factor rho it implies for that step."""
    certificate = truth.certificate
    rho = 1 - step * certificate.smallest_eigenvalue
    return {
        "seed": seed,
        "target": truth.target,
        "status": truth.status,
        "reason": truth.reason,
        "bound": truth.bound,
        "gradient_norm": float(torch.linalg.norm(truth.gradient)),
        "step": step,
        "rho": rho if 0 <= rho <= 1 else None,
        **dataclasses.asdict(certificate),
    }


def missing(selection: Selection, store: Store) -> list[tuple[Case, str]]:
    """Return the (case, estimator) pairs of a selection that have no record yet, or one that says something broke."""

    def wanted(case: Case, estimator: str) -> bool:
        record = store.read(case, estimator)
        return record is None or record["status"] in BROKEN

    return [(case, estimator) for case in selection.cases for estimator in selection.estimators if wanted(case, estimator)]


def missing_experiments(selection: Selection, store: Store) -> list[str]:
    """Return the experiments of a selection that have no record yet, or one that says something broke."""
    records = {name: store.read_experiment(name) for name in selection.experiments}
    return [name for name, record in records.items() if record is None or record["status"] in BROKEN]


def fill(
    selection: Selection,
    store: Store,
    workers: int,
    *,
    commit: str = "",
    dirty: bool = False,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> list[dict[str, Any]]:
    """Measure what is missing from the store, in worker processes, and return the new records.

    A worker that runs out of time or memory, or crashes, costs its own (case, estimator) only: the record says so.

    Parameters
    ----------
    workers : int
        Processes to run at once, each with one thread.
    commit, dirty
        What to label the records with.
    progress : callable
        Called with what was finished, how many are, and how many there are in all.
    """
    pairs = missing(selection, store)
    # References first: every estimator of a case needs them, and two workers would both compute them.
    truths = {store.reference_path(case, seed, target): (case, seed, target)
              for case, _ in pairs for seed in case.seeds for target in case.targets}  # fmt: skip
    todo = [truth for truth in truths.values() if store.read_reference(*truth) is None]
    surfaces = [case for case in selection.cases if selection.windows and not store.has_artifacts(case, selection.windows)]
    experiments = missing_experiments(selection, store)
    total, done = len(todo) + len(pairs) + len(surfaces) + len(experiments), 0
    records = []
    context = multiprocessing.get_context("spawn")
    with ProcessPool(max_workers=workers, context=context, initializer=_prepare_worker, initargs=(os.getpid(),)) as pool:
        try:
            futures: dict[Any, Any] = {
                pool.schedule(certified_reference, (*truth, store), timeout=selection.timeout): truth for truth in todo
            }
            for future in as_completed(futures):
                done += 1
                case, seed, _ = futures[future]
                # A failure here comes back, with its reason, in each estimator's record.
                future.exception()
                progress(f"reference of {case.name}, seed {seed}", done, total)
            drawn: dict[Any, Any] = {
                pool.schedule(measure_surfaces, (case, selection.windows, store), timeout=selection.timeout): case
                for case in surfaces
            }
            futures = {
                pool.schedule(measure, (*pair, store, commit, dirty), timeout=selection.timeout): pair for pair in pairs
            }
            for future in as_completed(futures):
                done += 1
                case, estimator = futures[future]
                failure = _failure(future.exception(), selection.timeout)
                if failure:
                    records.append(record_failure(case, estimator, store, *failure, commit, dirty))
                else:
                    records.append(future.result())
                progress(f"{estimator} on {case.name}", done, total)
            for future in as_completed(drawn):
                done += 1
                case = drawn[future]
                if failure := _failure(future.exception(), selection.timeout):
                    store.write_failed_artifacts(case, selection.windows, ": ".join(failure))
                progress(f"surfaces of {case.name}", done, total)
            carried: dict[Any, Any] = {
                pool.schedule(carry_out, (name, store, commit, dirty), timeout=selection.experiment_timeout): name
                for name in experiments
            }
            for future in as_completed(carried):
                done += 1
                name = carried[future]
                if failure := _failure(future.exception(), selection.experiment_timeout):
                    status, reason = failure
                    content = {"seconds": None, "provenance": provenance(store.device, commit, dirty)}
                    store.write_experiment(name, ExperimentResult([], status=status, reason=reason), content)
                progress(name, done, total)
        except BaseException:
            pool.stop()
            raise
    return records


def _failure(error: BaseException | None, timeout: float) -> tuple[str, str] | None:
    if error is None:
        return None
    if isinstance(error, TimeoutError):
        return "timeout", f"not finished after {timeout:g} s: raise the profile's timeout, or use fewer depths or samples"
    if isinstance(error, ProcessExpired):
        if error.exitcode == -9:
            return "out-of-memory", "the process was killed (signal 9), most likely for want of memory"
        return "error", f"the process ended with exit code {error.exitcode}"
    if isinstance(error, InvalidArgument):
        return "error", _line(error)
    return "error", f"{type(error).__name__}: {_line(error)}"


def _prepare_worker(parent: int) -> None:
    """Pin one thread, and end with the parent: a killed run must not leave workers behind."""
    torch.set_num_threads(1)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
