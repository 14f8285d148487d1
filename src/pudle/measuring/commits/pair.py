"""Build and measure two commits of a repository, and keep their results and times in one folder."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ... import names
from ...errors import SpecError
from ...files import read_record
from ..contents import Rounds
from ..locking import locked
from .build import built
from .side import Side, timed_cells
from .turns import TimeLimit, place, rounds_frame, time_in_turns

#: Share of a time limit that the scores and memory of one side may take; times take what is left.
SHARE = 0.35


@dataclass(frozen=True)
class CommitPair:
    """Two commits (full hashes) that are measured together, and the folder of their results in a
    home.
    """

    home: Path
    base: str
    head: str
    profile: str

    @property
    def folder(self) -> Path:
        """The folder of a home for ``base``, one for ``head``, and the times."""
        return self.home.resolve() / "compare" / f"{self.base[:12]}-{self.head[:12]}"

    def side(self, name: str) -> Path:
        """Return the profile's folder of one side, ``base`` or ``head``."""
        return self.folder / name / self.profile

    @property
    def rounds_path(self) -> Path:
        """The file of the times measured in turns. It is written last: where it exists, both
        commits are measured.
        """
        return self.folder / f"rounds-{self.profile}.json"

    def rounds(self) -> pd.DataFrame:
        """Return the times measured in turns, see `pudle.measuring.commits.turns.compare_rounds`."""
        return rounds_frame(self._content().rounds)

    @property
    def partial(self) -> bool:
        """Tell whether the time limit of the measurement left something out."""
        return self._content().partial

    @property
    def lacking(self) -> dict[str, dict[str, str]]:
        """Why each side, ``base`` or ``head``, lacks something, see `Side.lacking`."""
        return self._content().lacking

    def _content(self) -> Rounds:
        remedy = "delete it and run `pudle compare --run` again"
        return read_record(self.rounds_path, Rounds, remedy=remedy)

    def measure(
        self,
        root: Path,
        limit: TimeLimit,
        log: Callable[[str], None],
        *,
        minutes: float | None = None,
        **options: Any,
    ) -> None:
        """Measure both commits of the repository at `root`, this suite's or a plug-in's.

        The limit says what counts as slower, `log` gets one line about each step, and the options
        are those of `Side.measure`; of files of the repository that specs name, each side has its
        commit's version. After about so many `minutes`, building aside, what is not measured is
        left out. A commit that cannot be built or yields no results is an error, and so are a spec
        or a pattern that names nothing at either commit, and another comparison of the same commits
        at the same time.
        """
        with locked(self.folder, "comparison"), contextlib.ExitStack() as stack:
            self.rounds_path.unlink(missing_ok=True)
            sides, requests, lacking = {}, dict[str, dict[str, Any]](), dict[str, dict[str, str]]()
            for name, commit in (("base", self.base), ("head", self.head)):
                # Nothing is reused: the keys of stored scores do not cover the packages that both
                # sides share.
                shutil.rmtree(self.folder / name, ignore_errors=True)
                label = f"{name} {commit[:8]}"
                log(f"building {label}")
                tree, python = stack.enter_context(
                    built(root, commit, self.folder / f"{name}-build", label)
                )
                sides[name] = Side(label, commit, tree, python, self.side(name))
                requests[name] = _request_at(tree, root, options)
                lacking[name] = sides[name].lacking(self.profile, **requests[name])
            why_base, why_head = (
                _reasons(requests[name], lacking[name]) for name in ("base", "head")
            )
            if unknown := [
                reason for other, reason in zip(why_base, why_head, strict=True) if other and reason
            ]:
                hint = f"`pudle list --profile {self.profile}` shows what is known here"
                raise SpecError(f"on both commits: {'; '.join(dict.fromkeys(unknown))}; {hint}")
            seconds = math.inf if minutes is None else 60 * minutes
            until, partial = time.monotonic() + seconds, False
            for name, side in sides.items():
                log(f"scores and memory of {name}")
                done = side.measure(
                    self.profile,
                    timeout=None if minutes is None else SHARE * seconds,
                    **requests[name],
                )
                partial = partial or not done
                if name == "base" and (references := side.folder / "store" / "references").is_dir():
                    # Both sides share all packages but the project, and a key covers the project's
                    # own sources.
                    shutil.copytree(references, self.side("head") / "store" / "references")
            on_head = set(timed_cells(sides["head"].folder))
            cells = [cell for cell in timed_cells(sides["base"].folder) if cell in on_head]
            rounds = time_in_turns(sides, cells, limit, log, until)
            partial = partial or len({place(row) for row in rounds}) < len(cells)
            Rounds(rounds=rounds, partial=partial, lacking=lacking).write(self.rounds_path)


def _reasons(request: Mapping[str, Any], lacking: Mapping[str, str]) -> list[str]:
    """Return why a side lacks each spec and pattern that is requested, empty for what it has."""
    requested = (
        request.get(name, ()) for name in ("estimators", "datasets", "algorithms", "cases")
    )
    return [lacking.get(each, "") for each in itertools.chain(*requested)]


def _request_at(tree: Path, root: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options whose specs name the files of a checkout."""
    find = functools.partial(_seen_from, tree, root)
    placed = {
        name: [names.placed(spec, find) for spec in options.get(name, ())]
        for name in ("estimators", "algorithms")
    }
    datasets = [
        names.placed(spec, find, _path_options(spec)) for spec in options.get("datasets", ())
    ]
    return {**options, **placed, "datasets": datasets}


def _seen_from(tree: Path, root: Path, file: Path) -> Path:
    """Return a file of the repository as a path in a checkout that has it, and any other as it
    lies.
    """
    file = Path(os.path.abspath(file))
    versioned = file.relative_to(root) if file.is_relative_to(root) else None
    return versioned if versioned and (tree / versioned).is_file() else file


def _path_options(dataset: str) -> list[str]:
    """Return the options of a dataset that hold paths; none of one that only a commit has."""
    with contextlib.suppress(SpecError):
        return names.path_options(names.make_dataset(dataset))
    return []
