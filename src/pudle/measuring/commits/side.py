"""Measure one built commit, with that commit's own Python and package."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import PudleError
from ...files import read_each
from ...workers import ONE_THREAD, TIMED_OUT, run
from ..contents import ScoreRecord
from ..selection import SELECTION_VARIABLE, Selection
from .build import last_line

Cell = tuple[str, str, int]

SCRIPT = Path(__file__).with_name("scores_script.py")


@dataclass(frozen=True)
class Side:
    """One built commit: its name in errors, its full hash, its checkout, its interpreter and the
    folder of its results.
    """

    label: str
    commit: str
    tree: Path
    python: Path
    folder: Path

    @property
    def selection(self) -> Path:
        """The file that lists what this side measures; it does not exist where there is nothing to
        measure.
        """
        return self.folder / "selection.json"

    def environment(self) -> dict[str, str]:
        """Return the environment variables for this commit's Python."""
        # Neither the checkout nor the caller's path may shadow the package that was built from it.
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        return (
            inherited
            | ONE_THREAD
            | {"PYTHONSAFEPATH": "1", SELECTION_VARIABLE: str(self.selection)}
        )

    def run(
        self, *arguments: str | Path, cwd: Path | None = None, timeout: float | None = None
    ) -> Any:
        """Run this commit's Python to its end, or for so many seconds."""
        command = [str(self.python), *map(str, arguments)]
        return run(command, timeout, cwd=cwd or self.tree, env=self.environment())

    def lacking(self, profile: str, **options: Any) -> dict[str, str]:
        """Return why this commit lacks what it cannot load and what is requested, by name and spec;
        options as `measure`.
        """
        done = self.run(SCRIPT, _request(profile, **options))
        if done.returncode:
            raise self._failed(done)
        return json.loads(done.stdout)

    def measure(self, profile: str, *, timeout: float | None = None, **options: Any) -> bool:
        """Fill the store with scores and memory by this commit's own `pudle run`; what this side
        lacks is left out.

        The options are `device` and those of `pudle.measuring.selection.select`: `estimators` are
        specs, measured beside the profile's own or, with `only`, alone; `cases` are patterns of
        case names; `depths` and the others replace those of the profile. After `timeout` seconds
        the rest is left out, and the result is False. It is an error if the commit has some of them
        but yields no scores.
        """
        done = self.run(SCRIPT, _request(profile, **options), self.folder.parent, timeout=timeout)
        if done.returncode == TIMED_OUT or (done.returncode == 0 and not self.selection.exists()):
            return done.returncode == 0
        # A broken estimator ends a run with an error as well, but leaves a record that says so.
        if not self.selection.exists() or not records_in(self.folder / "store", []):
            raise self._failed(done)
        return True

    def _failed(self, done: Any) -> PudleError:
        return PudleError(f"{self.label} yields no scores: {last_line(done)}")


def _request(
    profile: str,
    *,
    estimators: Sequence[str] = (),
    only: bool = False,
    cases: Sequence[str] = (),
    depths: Sequence[int] = (),
    device: str = "cpu",
    **axes: Any,
) -> str:
    """Return the request that ``scores_script.py`` reads."""
    return json.dumps(
        {
            "profile": profile,
            "estimators": estimators,
            "only": only,
            "cases": cases,
            "depths": depths,
            "device": device,
            "axes": axes,
        }
    )


def records_in(store: Path, damaged: list[str]) -> list[tuple[Path, ScoreRecord]]:
    """Return (path, record) of every record of scores in a store; a damaged file adds a line to
    `damaged`.
    """
    paths = [
        path
        for path in sorted(store.glob("*/*.json"))
        if path.parent.name not in ("artifacts", "experiments")
    ]
    return read_each(paths, lambda path: (path, ScoreRecord.read(path)), damaged)


def timed_cells(folder: Path) -> list[Cell]:
    """Return the cells of a profile's folder that can be timed: those whose status is ok at their
    depth.
    """
    if not (folder / "selection.json").exists():
        return []
    selection = Selection.read(folder / "selection.json")
    records = {record.identity: record for _, record in records_in(folder / "store", [])}
    names = [case.name for case in selection.cases]
    cells = itertools.product(names, selection.estimators, selection.timed_depths)
    return [
        cell
        for cell in cells
        if cell[:2] in records and records[cell[:2]].at(cell[2])["status"] == "ok"
    ]
