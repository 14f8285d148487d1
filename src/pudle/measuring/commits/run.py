"""Build and measure two commits of a repository."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..locking import locked
from .build import built
from .pair import CommitPair, timed_cells
from .side import Request, Side
from .times import TimeLimit
from .turns import time_in_turns


def measure_commits(
    base: str, head: str, *, root: Path, home: Path, request: Request, limit: TimeLimit, log: Callable[[str], None]
) -> CommitPair:
    """Measure two commits (full hashes) of the repository at `root`, this suite's or a plug-in's.

    Parameters
    ----------
    home : Path
        Folder for results.
    request : Request
    limit : TimeLimit
        What counts as slower; the number of rounds depends on its significance.
    log : callable
        Called with one line about each step.

    Raises
    ------
    PudleError
        If a commit cannot be built or yields no results, or another comparison of the two commits is running.
    """
    pair = CommitPair.of(home, base, head, request.profile)
    with locked(pair.folder, "comparison"), contextlib.ExitStack() as stack:
        # Nothing is reused: the keys of stored scores do not cover the packages that both sides share.
        for name in ("base", "head"):
            shutil.rmtree(pair.folder / name, ignore_errors=True)
        pair.rounds_path.unlink(missing_ok=True)
        sides = {}
        for name, commit in (("base", base), ("head", head)):
            label = f"{name} {commit[:8]}"
            log(f"building {label}")
            tree, python = stack.enter_context(built(root, commit, pair.folder / f"{name}-build", label))
            sides[name] = Side(label, commit, tree, python, pair.side(name))
        for name, side in sides.items():
            log(f"scores of {name}")
            side.measure_scores(request)
        log("memory of both")
        with ThreadPoolExecutor(len(sides)) as pool:
            list(pool.map(Side.measure_memory, sides.values()))
        on_head = set(timed_cells(sides["head"].folder))
        cells = [cell for cell in timed_cells(sides["base"].folder) if cell in on_head]
        pair.write_rounds(time_in_turns(sides, cells, limit, log))
    return pair
