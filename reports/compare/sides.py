"""Find and load the results of one side of a comparison: a folder, or a commit."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from pudle.errors import InvalidArgument, MissingResults
from pudle.measuring.provenance import NoRepository, git, repository
from pudle.reports.load import Results, load

if TYPE_CHECKING:
    # Only for annotations: a report does not load what measures two commits.
    from pudle.measuring.commits.pair import CommitPair


def repository_root() -> Path:
    """Return the root of the repository around the current folder, or the current folder outside
    any.
    """
    try:
        return repository(Path.cwd())
    except NoRepository:
        return Path.cwd()


def folder_of(name: str, profile: str) -> Path | None:
    """Return the profile's folder that a path names, itself or as a home that holds it; None where
    it is neither.
    """
    path = Path(name)
    return next(
        (folder for folder in (path, path / profile) if (folder / "selection.json").is_file()), None
    )


def commit_named(name: str, root: Path) -> str:
    """Return the full hash of a commit, or refuse a name that is none."""
    with contextlib.suppress(NoRepository):
        if not name.startswith("-"):
            return git(root, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    kind = "a folder without results" if Path(name).is_dir() else "neither results nor a commit"
    commits = "a commit of this repository"
    try:
        repository(root)
    except NoRepository:
        commits = "a commit, which needs a git repository: here is none"
    raise InvalidArgument(
        f"{name!r} is {kind}: give a profile's folder, a home that holds one, or {commits}"
    )


def load_folder(folder: Path) -> Results:
    """Load the results in a profile's folder."""
    folder = folder.resolve()
    return load(folder.parent, folder.name)


def load_side(name: str, root: Path, home: Path, profile: str) -> Results:
    """Load the results that a name stands for: those of a folder, or those that a home holds of a
    commit.
    """
    folder = folder_of(name, profile)
    return (
        load_commit(commit_named(name, root), name, home, profile)
        if folder is None
        else load_folder(folder)
    )


def load_pair(pair: CommitPair) -> list[Results]:
    """Load both sides of two commits that were measured together; a side with nothing to measure
    has tables without rows.
    """
    folders = [pair.side(name) for name in ("base", "head")]
    measured = [
        load_folder(folder) if (folder / "selection.json").exists() else None for folder in folders
    ]
    like = measured[0] or measured[1]
    if like is None:
        raise MissingResults(
            "neither commit has a requested case and estimator: see `pudle list --profile"
            f" {pair.profile}`"
        )
    tables = ("frame", "references", "timings")
    empty = dataclasses.replace(
        like, estimators=(), notes=(), **{name: getattr(like, name).iloc[:0] for name in tables}
    )
    return [side or empty for side in measured]


def on_both(sides: list[Results]) -> tuple[list[Results], int]:
    """Return both sides of a measurement that a time limit ended, without what it left out of
    either, and how much that is.

    A (case, estimator) pair without a record goes as a whole, and of a pair with one the costs that
    are missing.
    """
    place = ["case", "estimator", "depth", "metric"]
    frames = [side.frame.astype({"depth": object}) for side in sides]
    missing = pd.concat([frame.loc[frame["status"] == "missing", place] for frame in frames])
    without_record = missing.loc[missing["depth"].isna(), place[:2]]
    whole = set(without_record.itertuples(index=False, name=None))
    parts = {
        where for where in missing.itertuples(index=False, name=None) if where[:2] not in whole
    }
    kept = []
    for side, frame in zip(sides, frames, strict=True):
        places = frame[place].itertuples(index=False, name=None)
        keep = [where[:2] not in whole and where not in parts for where in places]
        kept.append(dataclasses.replace(side, frame=side.frame[keep]))
    return kept, len(whole) + len(parts)


def load_commit(commit: str, name: str, home: Path, profile: str) -> Results:
    """Load the results that a home holds of one commit (full hash), even if later commits were
    measured there since.

    The error that refuses a commit without results calls it by `name`, as the user did, and says
    how to measure it.
    """
    try:
        return load(home, profile, commit)
    except MissingResults:
        raise MissingResults(
            f"no results of commit {name} ({commit[:8]}) under {home / profile}: let `pudle compare"
            f" --run` make them, or check it out, install it and `pudle run --profile {profile}`"
        ) from None
