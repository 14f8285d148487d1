"""Errors of a tidy table as the arrays that answers rest on."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from pudle.answers import Curve


def split(frame: pd.DataFrame, *keys: str) -> Iterator[tuple[tuple[Any, ...], Curve]]:
    """Yield the curve of each group of rows of a tidy table, in time linear in their number.

    The rows need the columns ``depth``, ``seed``, ``value`` and ``at_floor``; of two rows with one
    depth and seed the later counts.
    """
    if frame.empty:
        return
    group = frame.groupby(list(keys), sort=False, dropna=False).ngroup().to_numpy()
    order = np.argsort(group, kind="stable")
    depths, seeds = (
        frame[name].fillna(-1).to_numpy(dtype=np.int64)[order] for name in ("depth", "seed")
    )
    values, floors = (
        frame["value"].to_numpy(dtype=float)[order],
        frame["at_floor"].to_numpy(dtype=bool)[order],
    )
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    names = frame[list(keys)].iloc[order[starts]].itertuples(index=False, name=None)
    for name, start, stop in zip(names, starts, [*starts[1:], len(order)], strict=True):
        part = slice(start, stop)
        rows, columns = np.unique(depths[part]), np.unique(seeds[part])
        place = np.searchsorted(rows, depths[part]), np.searchsorted(columns, seeds[part])
        matrix, floor = (
            np.full((len(rows), len(columns)), math.nan),
            np.zeros((len(rows), len(columns)), bool),
        )
        matrix[place], floor[place] = values[part], floors[part]
        yield name, Curve(rows, columns, matrix, floor)
