"""Find and load the results of one side of a comparison: a folder, or a commit."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pudle.errors import InvalidArgument, MissingResults, UnreadableResult
from pudle.files import lies_at, read_each
from pudle.measuring.provenance import NoRepository, git
from pudle.reports.load import Results, load

if TYPE_CHECKING:
    # Only for annotations: a report does not load what measures two commits.
    from pudle.measuring.commits.pair import CommitPair
    from pudle.measuring.stored_files import CommitRounds


def folder_of(name: str, profile: str) -> Path | None:
    """Return the profile's folder that a path names, itself or as a home that holds it, told by its
    ``run.json``; None where it is neither.
    """
    path = Path(name)
    return next((folder for folder in (path, path / profile) if lies_at(folder / "run.json")), None)


def commit_named(name: str) -> str:
    """Return the full hash of a commit of the repository around the working folder, or refuse a
    name that is none (InvalidArgument). Runs git.
    """
    options = ("--verify", "--quiet", "--end-of-options")
    try:
        return git(Path.cwd(), "rev-parse", *options, f"{name}^{{commit}}")
    except NoRepository:
        kind = "a folder without results" if Path(name).is_dir() else "neither results nor a commit"
        raise InvalidArgument(
            f"{name!r} is {kind}: give a folder of results such as .asv/quick, or a commit of the"
            " git repository that you are in"
        ) from None


def load_folder(folder: Path) -> Results:
    """Load the results in a profile's folder."""
    folder = folder.resolve()
    return load(folder.parent, folder.name)


def load_side(name: str, home: Path, profile: str) -> Results:
    """Load the results that a name stands for: those of a folder, or those that a home holds of a
    commit, even if later commits were measured there since.

    InvalidArgument says that it is neither, and MissingResults that a commit has none.
    """
    if folder := folder_of(name, profile):
        return load_folder(folder)
    commit = commit_named(name)
    try:
        return load(home, profile, commit)
    except MissingResults:
        raise MissingResults(
            f"no results of commit {name} ({commit[:8]}) under {home / profile}: let `pudle compare"
            f" --run` make them, or check it out, install it and `pudle run --profile {profile}`"
        ) from None


def load_sides(
    names: Iterable[str], home: Path, profile: str
) -> tuple[dict[str, Results], list[str]]:
    """Load what some names stand for, see `load_side`, without any the last run of the profile;
    return the results by name, and a line for each damaged file, which hides nothing else.

    UnreadableResult is raised only where nothing else is left.
    """
    damaged: list[str] = []
    loaded = read_each(
        dict.fromkeys(names), lambda name: (name, load_side(name, home, profile)), damaged
    )
    if damaged and not loaded:
        raise UnreadableResult("; ".join(damaged))
    sides = dict(loaded) or {profile: load(home, profile)}
    return sides, [*damaged, *(line for side in sides.values() for line in side.damaged)]


def check_judgeable(sides: Mapping[str, Results]) -> None:
    """Refuse sides that are damaged (UnreadableResult), as a verdict on what is left would be none,
    or without cases (MissingResults).
    """
    if damaged := [line for side in sides.values() for line in side.damaged]:
        raise UnreadableResult("; ".join(damaged))
    for name, side in sides.items():
        if not side.cases:
            raise MissingResults(
                f"{name} holds experiments only, and only cases are judged: `pudle report` shows"
                " both"
            )


def load_commits(
    names: Iterable[str], pair: CommitPair, *, just_measured: bool
) -> tuple[list[Results], CommitRounds | None]:
    """Load both sides of two commits, named as the user did, base first, with the times that were
    measured in turns where these are what the sides hold, else None.

    What `pudle run` has of both commits comes before what an earlier ``--run`` measured of the
    pair, which may be a few cells of it; not before what was `just_measured`. MissingResults says
    that there is neither.
    """
    if not just_measured:
        try:
            return [load_side(name, pair.home, pair.profile) for name in names], None
        except MissingResults:
            if not lies_at(pair.rounds_path):
                raise
    return load_pair(pair), pair.read()


def load_pair(pair: CommitPair) -> list[Results]:
    """Load both sides of two commits that were measured together, base first; a side with nothing
    to measure has tables without rows. MissingResults says that neither has anything.
    """
    folders = [pair.side(name) for name in ("base", "head")]
    measured = [folder for folder in folders if (folder / "selection.json").exists()]
    if not measured:
        raise MissingResults(
            "neither commit has a requested case and estimator: see `pudle list --profile"
            f" {pair.profile}`"
        )
    like = load_folder(measured[0])
    empty = dataclasses.replace(like, rows=(), records=())
    return [load_folder(folder) if folder in measured else empty for folder in folders]
