"""The selection and the store that every asv cell uses."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import torch

from pudle.algorithms import Algorithm
from pudle.errors import SpecError
from pudle.measuring import sources, store
from pudle.measuring.costs import SELECTION_VARIABLE, drawn
from pudle.measuring.measurement import measure
from pudle.measuring.selection import Selection
from pudle.measuring.statuses import BROKEN
from pudle.problems import Problem
from pudle.registry import list_datasets, list_estimators, make_estimator

from .cases import PROFILES


@functools.cache
def selection() -> Selection:
    """Return the frozen selection; the same file serves discovery, every cell, and both sides of a
    comparison.
    """
    # With two threads on two busy cores, small kernels run many times slower.
    torch.set_num_threads(1)
    # Discovery and the fork server call this before cells fork off, so that each cell finds all
    # sources read.
    sources.digest(store.SCORES, *list_estimators().values(), *list_datasets().values())
    path = os.environ.get(SELECTION_VARIABLE)
    return Selection.read(Path(path)) if path else PROFILES["quick"]


def draw(case: str) -> tuple[Problem, Algorithm]:
    """Return the problem of a case's first seed and the algorithm.

    They are drawn once: asv sets a cell up again for each repeat.
    """
    return drawn(selection().case(case), selection().device)


@functools.lru_cache(maxsize=1)
def record(case: str, estimator: str) -> dict[str, Any]:
    """Return the stored record of a cell, measuring it where it is missing.

    The store lies beside the selection's file; that of a plain `asv run` in the checkout that holds
    this file. NotImplementedError makes asv skip the cell: for an estimator that this commit lacks,
    or that the case leaves out.
    """
    if not selection().holds(case, estimator):
        raise NotImplementedError(f"{estimator} is not measured on {case}: it would take long")
    try:
        make_estimator(estimator)
    except SpecError as error:
        raise NotImplementedError(str(error)) from None
    chosen, path = selection(), os.environ.get(SELECTION_VARIABLE)
    folder = (
        Path(path).parent if path else Path(__file__).resolve().parents[1] / ".asv" / chosen.profile
    )
    kept = store.Store(folder / "store", chosen.profile, chosen.device)
    return kept.read(chosen.case(case), estimator) or measure(chosen.case(case), estimator, kept)


def require_ok(content: dict[str, Any]) -> None:
    """Skip a cell with a finding instead of a number, and fail a cell where something broke."""
    if content["status"] != "ok":
        failure = RuntimeError if content["status"] in BROKEN else NotImplementedError
        raise failure(f"{content['status']}: {content['reason']}")
