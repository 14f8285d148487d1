"""A submission: a folder with an estimator's file, its results, and a manifest that is signed off
and holds all digests.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import re
import shutil
import sys
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from msgspec import Struct

import pudle
from pudle import names
from pudle.errors import InvalidArgument, PudleError, UnreadableResult
from pudle.files import read_json, write_atomically
from pudle.measuring.provenance import NoRepository, git, machine
from pudle.measuring.run import execute
from pudle.measuring.selection import Selection
from pudle.workers import run

#: The profile's folder in a submission, the file of its estimator, and its manifest.
PROFILE, ESTIMATOR, MANIFEST = "leaderboard", "estimator.py", "submission.json"
#: What times are measured beside: the ratio to it means the same on every machine of one kind.
YARDSTICK = "backprop"
#: Cases by the profile that holds them: dense dictionaries, photographs, and two problems with a
#: scalar parameter.
CASES = {"quick": ("*",), "default": ("penalty_selection-*", "ridge-*")}
DEPTHS = (10, 50, 100, 200, 400)
TIMED_DEPTHS = (10, 100)
#: All that the process of another person's code sees of this one's environment.
KEPT = ("PATH", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV")
#: What a person who signs off states, as the developer certificate of origin has it for code.
STATEMENT = (
    "I wrote this file, or may publish it under its license, and these results are as `pudle"
    " submit` measured them."
)


class Manifest(Struct):
    """What the manifest of a submission holds."""

    name: str
    spec: str
    computes: str
    signed_off_by: str
    statement: str
    pudle: str
    date: str
    machine: dict[str, Any]
    #: SHA-256 of every other file of the submission, by its place.
    files: dict[str, str]


@dataclass(frozen=True)
class Submission:
    """A folder that was handed in, and its manifest."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def digest(self) -> str:
        """The digest of all files, by which a score computed again is kept."""
        listed = json.dumps(self.manifest["files"], sort_keys=True)
        return hashlib.sha256(listed.encode()).hexdigest()[:16]


def selection(*estimators: str) -> Selection:
    """Return what a submission measures: some estimators, on the cases of the leaderboard."""
    profiles = names.list_profiles()
    cases = tuple(
        replace(case, seeds=case.seeds[:3], depths=DEPTHS)
        for profile, patterns in CASES.items()
        for case in profiles[profile].cases
        if any(fnmatch(case.name, pattern) for pattern in patterns)
    )
    return Selection(PROFILE, cases, estimators, DEPTHS, TIMED_DEPTHS, timeout=300.0)


def write_manifest(folder: Path, estimator: Any, spec: str, person: str) -> Submission:
    """Write the manifest of a folder that holds everything else, and return the submission."""
    if not re.fullmatch(r"[^<>\n]+ <[^<>@\s]+@[^<>@\s]+>", person):
        raise InvalidArgument(
            f"{person!r} signs nothing off: give a name and an address, as 'Ada Lovelace"
            " <ada@example.org>'"
        )
    manifest = {
        "name": estimator.name,
        "spec": spec,
        "computes": estimator.computes,
        "signed_off_by": person,
        "statement": STATEMENT,
        "pudle": pudle.__version__,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "files": digests(folder),
    }
    write_atomically(folder / MANIFEST, json.dumps(manifest, indent=1) + "\n")
    return Submission(folder, manifest)


def read_submission(folder: Path) -> Submission:
    """Read a submission, and refuse one whose files are not those that were signed off."""
    manifest = read_json(folder / MANIFEST, Manifest, remedy="run `pudle submit` again")
    found, stated = digests(folder), manifest["files"]
    wrong = sorted(
        place for place in found.keys() | stated.keys() if found.get(place) != stated.get(place)
    )
    if wrong:
        raise UnreadableResult(
            f"{folder.name}: {wrong[0]} is not what was signed off: run `pudle submit` again"
        )
    name, place = manifest["name"], names.file_of(names.parse(manifest["spec"])[0])
    if name != folder.name or not name.isidentifier():
        raise UnreadableResult(
            f"{folder.name}: the folder must be called as its estimator, {name!r:.80}"
        )
    if not place or place[0] != Path(ESTIMATOR):
        raise UnreadableResult(
            f"{name}: {manifest['spec']!r:.80} is not the file that was handed in, {ESTIMATOR}"
        )
    if getattr(names.list_estimators().get(name), "__module__", "").startswith("pudle."):
        raise UnreadableResult(f"{name} is the name of a built-in estimator: choose another")
    return Submission(folder, manifest)


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a submission but its manifest, by its place."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }


def author() -> str:
    """Return the author that git knows, or refuse to sign anything off."""
    try:
        words = [git(Path.cwd(), "config", f"user.{part}") for part in ("name", "email")]
    except NoRepository:
        raise InvalidArgument(
            "git knows no author: give --signed-off-by 'NAME <ADDRESS>'"
        ) from None
    return "{} <{}>".format(*words)


def strip(folder: Path) -> None:
    """Delete what was measured on the way and is not handed in."""
    for name in ("store/references", "results", "runs"):
        shutil.rmtree(folder / PROFILE / name, ignore_errors=True)
    for name in ("lock", "asv.conf.json"):
        (folder / PROFILE / name).unlink(missing_ok=True)


def measure_apart(folder: Path, home: Path, specs: list[str], *, scores_only: bool) -> None:
    """Measure estimators, whose specs are relative to a folder, in a process that sees nothing of
    this one's environment.
    """
    environment = {name: os.environ[name] for name in KEPT if name in os.environ}
    home.mkdir(parents=True, exist_ok=True)
    options = ["yes" if scores_only else "no", *specs]
    command = [sys.executable, "-m", __name__, str(home.resolve()), *options]
    done = run(command, cwd=folder, env=environment | {"HOME": str(home)})
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        raise PudleError(f"{folder.name} cannot be measured: {lines[-1]}")


if __name__ == "__main__":
    place, only_scores, *estimators = sys.argv[1:]
    execute(selection(*estimators), home=Path(place), scores_only=only_scores == "yes")
