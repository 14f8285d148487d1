"""The folder of two measured commits, and how to read its records and times."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ...files import read_json, write_atomically
from ..statuses import at_depth
from .times import CELL

Cell = tuple[str, str, int]


@dataclass(frozen=True)
class CommitPair:
    """The folder of two commits that are measured together: a home for ``base``, one for ``head``, and the times."""

    folder: Path
    profile: str

    @classmethod
    def of(cls, home: Path, base: str, head: str, profile: str) -> CommitPair:
        """Return the pair of two commits (full hashes) in a home, measured or not."""
        return cls(home.resolve() / "compare" / f"{base[:12]}-{head[:12]}", profile)

    def side(self, name: str) -> Path:
        """Return the profile's folder of one side, ``base`` or ``head``."""
        return self.folder / name / self.profile

    @property
    def rounds_path(self) -> Path:
        """The file of the times measured in turns."""
        return self.folder / f"rounds-{self.profile}.json"

    @property
    def complete(self) -> bool:
        """Whether both commits are measured to the end: the times are written last."""
        return self.rounds_path.exists()

    def rounds(self) -> pd.DataFrame:
        """Return the times measured in turns, see `pudle.measuring.commits.times.compare_rounds`."""
        return rounds_frame(read_json(self.rounds_path)["rounds"])

    def write_rounds(self, rounds: pd.DataFrame) -> None:
        """Write the times measured in turns."""
        rows = rounds.astype(object).where(rounds.notna(), None).to_dict("records")
        write_atomically(self.rounds_path, json.dumps({"rounds": rows}))


def rounds_frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return times measured in turns as a table."""
    frame = pd.DataFrame(rows, columns=[*CELL, "round", "base", "head", "reason"])
    return frame.astype({"base": "float64", "head": "float64"})


def records_in(store: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield (path, record) of every record of scores in a store, whichever version of the suite named the files."""
    for path in sorted(store.glob("*/*.json")):
        content = read_json(path)
        if {"case", "estimator", "status", "provenance"} <= content.keys():
            yield path, content


def timed_cells(folder: Path) -> list[Cell]:
    """Return the cells of a profile's folder that can be timed: those whose status is ok at their depth."""
    if not (folder / "selection.json").exists():
        return []
    selection = read_json(folder / "selection.json")
    records = {(record["case"]["name"], record["estimator"]): record for _, record in records_in(folder / "store")}
    names = [case["name"] for case in selection["cases"]]
    cells = itertools.product(names, selection["estimators"], selection["timed_depths"])
    return [cell for cell in cells if cell[:2] in records and at_depth(records[cell[:2]], cell[2])["status"] == "ok"]
