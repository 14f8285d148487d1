"""What asv's cells run over: the frozen selection of this run, and the store it fills."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import torch

from pudle.errors import SpecError
from pudle.measuring.case import SELECTION_VARIABLE, Selection
from pudle.measuring.provenance import suite_digest
from pudle.measuring.runner import BROKEN, look_up
from pudle.measuring.store import Store
from pudle.registry import list_datasets, list_estimators, make_estimator

from .cases import PROFILES


@functools.cache
def selection() -> Selection:
    """Return the frozen selection; the same file serves discovery, every cell, and both sides of a comparison."""
    # Discovery and the fork server come through here: what every cell needs is loaded once, before they fork.
    list_estimators(), list_datasets(), suite_digest()
    path = os.environ.get(SELECTION_VARIABLE)
    return Selection.read(Path(path)) if path else PROFILES["quick"]


def store() -> Store:
    """Return the store beside the selection; for a plain `asv run`, the one in the checkout that holds this file."""
    path = os.environ.get(SELECTION_VARIABLE)
    folder = Path(path).parent if path else Path(__file__).resolve().parent.parent / ".asv" / selection().profile
    return Store(folder / "store", selection().profile, selection().device)


def record(case: str, estimator: str) -> dict:
    """Return the stored record of a cell, measuring it where it is missing.

    Raises
    ------
    NotImplementedError
        Where this commit has no such estimator: asv then skips the cell.
    """
    pin_threads()
    try:
        make_estimator(estimator)
    except SpecError as error:
        raise NotImplementedError(str(error)) from None
    return look_up(selection().case(case), estimator, store())


def require_ok(content: dict) -> None:
    """Skip the cell where there is a finding instead of a number, and fail it where something broke."""
    if content["status"] in BROKEN:
        raise RuntimeError(f"{content['status']}: {content['reason']}")
    if content["status"] != "ok":
        raise NotImplementedError(f"{content['status']}: {content['reason']}")


def pin_threads() -> None:
    """Use one thread: with two on two busy cores, small kernels run many times slower."""
    torch.set_num_threads(1)
