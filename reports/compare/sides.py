"""Find and load the results of one side of a comparison: a folder, or a commit."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

from pudle.errors import InvalidArgument, MissingResults, UnreadableResult
from pudle.files import read_each, read_json, write_atomically
from pudle.measuring import contents
from pudle.measuring.commits.pair import CommitPair
from pudle.measuring.commits.side import records_in
from pudle.measuring.provenance import NoRepository, git, repository
from pudle.reports.learning.records import read_experiments
from pudle.reports.load import Results, load


def repository_root() -> Path:
    """Return the root of the repository around the current folder, or the current folder outside any."""
    try:
        return repository(Path.cwd())
    except NoRepository:
        return Path.cwd()


def folder_of(name: str, profile: str) -> Path | None:
    """Return the profile's folder that a path names, itself or as a home that holds it; None where it is neither."""
    path = Path(name)
    return next((folder for folder in (path, path / profile) if (folder / "selection.json").is_file()), None)


def commit_named(name: str, root: Path) -> str:
    """Return the full hash of a commit, or refuse a name that is none."""
    try:
        if name.startswith("-"):
            raise NoRepository
        return git(root, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    except NoRepository:
        kind = "a folder without results" if Path(name).is_dir() else "neither a folder with results nor a commit here"
        raise InvalidArgument(
            f"{name!r} is {kind}: give a profile's folder, a home that holds one, or a commit of this repository"
        ) from None


def load_folder(folder: Path) -> Results:
    """Load the results in a profile's folder."""
    folder = folder.resolve()
    return load(folder.parent, folder.name)


def load_side(name: str, root: Path, home: Path, profile: str) -> Results:
    """Load the results that a name stands for: those of a folder, or those that a home holds of a commit."""
    folder = folder_of(name, profile)
    return load_commit(commit_named(name, root), name, home, profile) if folder is None else load_folder(folder)


def load_pair(pair: CommitPair) -> list[Results]:
    """Load both sides of two commits that were measured together; a side with nothing to measure has tables without rows."""
    folders = [pair.side(name) for name in ("base", "head")]
    measured = [load_folder(folder) if (folder / "selection.json").exists() else None for folder in folders]
    like = measured[0] or measured[1]
    if like is None:
        raise MissingResults(f"neither commit has a requested case and estimator: see `pudle list --profile {pair.profile}`")
    tables = ("frame", "references", "records", "timings")
    empty = dataclasses.replace(like, estimators=(), notes=(), **{name: getattr(like, name).iloc[:0] for name in tables})
    return [side or empty for side in measured]


def load_commit(commit: str, name: str, home: Path, profile: str) -> Results:
    """Load the results that a home holds of one commit (full hash), even if later commits were measured there since.

    The error that refuses a commit without results calls it by `name`, as the user did, and says how to measure it.
    """
    folder = home / profile
    store, run = folder / "store", _run_at(folder / "runs", commit)
    damaged: list[str] = []
    records = [store / item for item in run.get("records", ())]
    if not records:
        # A run that was interrupted lists nothing: take the records that this commit was the first to measure.
        records = [path for path, record in records_in(store, damaged) if record["provenance"].get("commit") == commit]
    listed = [store / item for item in _run_at(folder / "runs" / "experiments", commit).get("experiments", ())]
    first = [
        item.path for item in read_experiments(store / "experiments", damaged) if item.provenance.get("commit") == commit
    ]
    # A damaged experiment may be deleted, as its error says, without a change to the list.
    records += [path for path in dict.fromkeys([*first, *listed]) if path.exists()]
    if not records:
        if damaged:
            raise UnreadableResult("; ".join(damaged))
        raise MissingResults(
            f"no results of commit {name} ({commit[:8]}) under {folder}: let `pudle compare --run` make them, or check it "
            f"out, install it and `pudle run --profile {profile}`"
        )
    selection = run.get("selection") or read_json(folder / "selection.json", contents.StoredSelection)
    return _load_part(folder, commit, selection, records, damaged)


def _run_at(folder: Path, commit: str) -> dict[str, Any]:
    """Return what a run at a commit listed, with uncommitted changes only if there is no other; empty if there is none."""
    paths = (folder / f"{commit}{suffix}.json" for suffix in ("", "-dirty"))
    return next((read_json(path, contents.RunList) for path in paths if path.exists()), {})


def _load_part(folder: Path, commit: str, selection: dict[str, Any], records: list[Path], damaged: list[str]) -> Results:
    """Load one commit's part of a profile's folder, from a copy that holds nothing else."""
    found = dict(read_each(records, _read_record, damaged))
    for record in found.values():
        # The record holds at this commit, whichever commit first measured it.
        record["provenance"]["commit"] = commit
    # asv's file names begin with the commit's first digits, their content has all of them.
    times = read_each(
        sorted((folder / "results").glob(f"*/{commit[:8]}*.json")), lambda path: (path, read_json(path)), damaged
    )
    found |= {path: content for path, content in times if content.get("commit_hash") == commit}
    with tempfile.TemporaryDirectory() as scratch:
        part = Path(scratch) / folder.name
        for path, content in {**found, folder / "selection.json": selection}.items():
            write_atomically(part / path.relative_to(folder), json.dumps(content))
        for path in found:
            if (arrays := path.with_suffix(".npz")).exists():
                (part / arrays.relative_to(folder)).symlink_to(arrays.resolve())
        results = load(part.parent, part.name)
        # What is damaged is named where it lies.
        damaged += [line.replace(str(part), str(folder)) for line in results.damaged]
    # The arrays of an experiment lie beside the original and are read later.
    moved = (dataclasses.replace(item, path=folder / item.path.relative_to(part)) for item in results.experiments)
    return dataclasses.replace(results, experiments=tuple(moved), damaged=tuple(dict.fromkeys(damaged)))


def _read_record(path: Path) -> tuple[Path, dict[str, Any]]:
    kind = contents.ExperimentRecord if path.parent.name == "experiments" else contents.ScoreRecord
    return path, read_json(path, kind)
