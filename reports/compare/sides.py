"""Finding the results of one side of a comparison: a folder, or a commit."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pudle.errors import InvalidArgument, MissingResults
from pudle.files import read_json
from pudle.measuring.provenance import NoRepository, git
from pudle.reports.learning.records import read_experiments
from pudle.reports.load import Results, load


def folder_of(name: str, profile: str) -> Path | None:
    """Return the profile's folder that a name stands for: itself, or the one in a home; None where it is no such folder."""
    path = Path(name)
    for folder in (path, path / profile):
        if (folder / "selection.json").is_file():
            return folder
    return None


def commit_named(name: str, root: Path) -> str:
    """Return the full hash of a commit.

    Raises
    ------
    InvalidArgument
        If the name is neither a folder with results nor a commit.
    """
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
    """Read the results in a profile's folder."""
    folder = folder.resolve()
    return load(folder.parent, folder.name)


def load_commit(commit: str, name: str, home: Path, profile: str) -> Results:
    """Read what a home holds of one commit, whatever was measured there since.

    Parameters
    ----------
    commit : str
        Full hash.
    name : str
        What the user called it.
    home : Path
        Folder that holds one folder per profile.
    profile : str

    Raises
    ------
    MissingResults
        If nothing was measured at that commit; the text says how to.
    """
    folder = home / profile
    experiments = _experiments_at(folder, commit)
    path = _run_file(folder / "runs", commit)
    if path is not None:
        run = read_json(path)
        with contextlib.suppress(KeyError, TypeError):
            records = [folder / "store" / item for item in run["records"]]
            return _view(folder, profile, commit, run["selection"], records, experiments)
    # Results of a version that did not write down its runs: the records that this commit was the first to measure.
    records = [path for path, record in records_in(folder / "store") if record["provenance"].get("commit") == commit]
    if not records and not experiments:
        raise MissingResults(
            f"no results of commit {name} ({commit[:8]}) under {folder}: let `pudle compare --run` make them, or check it "
            f"out, install it and `pudle run --profile {profile}`"
        )
    return _view(folder, profile, commit, read_json(folder / "selection.json"), records, experiments)


def _run_file(folder: Path, commit: str) -> Path | None:
    """Return what a run wrote down about a commit; one with uncommitted changes counts where there is no other."""
    paths = (folder / f"{commit}{suffix}.json" for suffix in ("", "-dirty"))
    return next((path for path in paths if path.exists()), None)


def _experiments_at(folder: Path, commit: str) -> list[Path]:
    """Return the experiments that held at a commit: those that runs wrote down, or that it was the first to carry out."""
    path = _run_file(folder / "runs" / "experiments", commit)
    listed = [] if path is None else [folder / "store" / item for item in read_json(path)["experiments"]]
    first = [item.path for item in read_experiments(folder / "store" / "experiments")
             if item.provenance.get("commit") == commit]  # fmt: skip
    # Whoever deletes a record that is damaged, as its error tells, must not have to mend lists.
    return [path for path in dict.fromkeys([*first, *listed]) if path.exists()]


def records_in(store: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the records of a store with their paths; what else it may keep, such as a surface, is left out."""
    for path in sorted(store.glob("*/*.json")):
        content = read_json(path)
        if {"case", "estimator", "status", "provenance"} <= content.keys():
            yield path, content


def _view(
    folder: Path, profile: str, commit: str, selection: dict[str, Any], records: list[Path], experiments: list[Path]
) -> Results:
    """Load one commit's part of a folder, by copying that part to where nothing else is."""
    originals: dict[Path, Path] = {}
    with tempfile.TemporaryDirectory() as scratch:
        part = Path(scratch) / profile
        part.mkdir()
        (part / "selection.json").write_text(json.dumps(selection))
        for path in [*records, *experiments]:
            record = read_json(path)
            # The record holds at this commit, whichever one first measured it.
            record["provenance"]["commit"] = commit
            copy = part / "store" / path.relative_to(folder / "store")
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(json.dumps(record))
            originals[copy] = path
        for path in _asv_files(folder / "results", commit):
            copy = part / "results" / path.relative_to(folder / "results")
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
        found = load(Path(scratch), profile)
    # An experiment's arrays are read when they are drawn, from where they lie.
    moved = tuple(dataclasses.replace(item, path=originals[item.path]) for item in found.experiments)
    return dataclasses.replace(found, experiments=moved)


def _asv_files(folder: Path, commit: str) -> Iterator[Path]:
    """Yield asv's result files of a commit; their names begin with the commit, their content has all of it."""
    for path in sorted(folder.glob(f"*/{commit[:8]}*.json")):
        if read_json(path).get("commit_hash") == commit:
            yield path
