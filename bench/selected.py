"""The selection and the store that every asv cell uses."""

import contextlib
import functools
import os
from dataclasses import replace
from pathlib import Path

import torch

from pudle.errors import PudleError, SpecError
from pudle.files import read_record
from pudle.measuring.contents import BROKEN, ScoreRecord
from pudle.measuring.costs import drawn
from pudle.measuring.measurement import measure
from pudle.measuring.provenance import installed_commit
from pudle.measuring.run import fill, plan_costs, survey, take_part
from pudle.measuring.selection import SELECTION_VARIABLE, Selection
from pudle.measuring.store import Store
from pudle.names import make_estimator
from pudle.workers import Here

from .cases import PROFILES


@functools.cache
def selection() -> Selection:
    """Return the frozen selection; the same file serves discovery, every cell, and both sides of a
    comparison.
    """
    # With two threads on two busy cores, small kernels run many times slower.
    torch.set_num_threads(1)
    path = os.environ.get(SELECTION_VARIABLE)
    return read_record(Path(path), Selection) if path else PROFILES["quick"]


@functools.cache
def store() -> Store:
    """Return the store beside the selection's file; that of a plain `asv run` lies in the checkout
    that holds this file, and its commit is known if it is the one that is installed.
    """
    chosen, label, path = selection(), ("", False), os.environ.get(SELECTION_VARIABLE)
    folder = Path(path or "").parent
    if not path:
        root = Path(__file__).resolve().parents[1]
        folder = root / ".asv" / chosen.profile
        with contextlib.suppress(PudleError):
            label = installed_commit(root)
    return Store(folder / "store", chosen.profile, chosen.device, *label)


@functools.lru_cache(maxsize=1)
def record(case: str, estimator: str) -> ScoreRecord:
    """Return the stored record of an estimator on a case, measuring it where it is missing.

    NotImplementedError makes asv skip the cell: for an estimator that this commit lacks, or that
    the case leaves out.
    """
    if reason := selection().left_out(case, estimator):
        raise NotImplementedError(f"{estimator} is not measured on {case}: {reason}")
    try:
        make_estimator(estimator)
    except SpecError as error:
        raise NotImplementedError(str(error)) from None
    chosen = selection().case(case)
    if SELECTION_VARIABLE not in os.environ:
        # A plain `asv run` is a run as well, which `pudle report` shows and `pudle run` continues.
        take_part(store(), selection(), chosen, estimator)
    return store().read("score", chosen, estimator) or measure(chosen, estimator, store())


def require_ok(status: str, reason: str) -> None:
    """Skip a cell with a finding instead of a number, and fail a cell where something broke."""
    if status != "ok":
        raise (RuntimeError if status in BROKEN else NotImplementedError)(f"{status}: {reason}")


class _Cells:
    """What all benchmarks share: a cell is an estimator on a case at a depth."""

    params = (
        [case.name for case in selection().cases],
        list(selection().estimators),
        list(selection().timed_depths),
    )
    param_names = ("case", "estimator", "depth")
    timeout = selection().timeout


class _Estimates(_Cells):
    """What times and memory share: a cell is one estimate, and the store has its cost as well."""

    metric: str

    def setup(self, case: str, estimator: str, depth: int) -> None:
        require_ok(**record(case, estimator).at(depth))
        chosen = selection().case(case)
        cell = self.metric, chosen, estimator, depth
        if not store().read("cost", *cell):
            cases = tuple(each for each in selection().cases if each.problem == chosen.problem)
            tasks = survey(replace(selection(), cases=cases), store())
            fill(plan_costs(tasks), executor=Here())
        kept = store().read("cost", *cell)
        if kept is None:
            raise NotImplementedError(f"{self.metric} is not measured at depth {depth}")
        require_ok(kept.status, kept.reason)
        self.problem, self.algorithm = drawn(chosen, selection().device)
        self.estimator = make_estimator(estimator)
