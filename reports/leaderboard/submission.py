"""A submission: a folder with an estimator's file, its results, and a manifest that is signed off
and holds all digests.
"""

import datetime
import hashlib
import os
import re
import sys
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from msgspec import Struct

import pudle
from pudle import names
from pudle.errors import InvalidArgument, PudleError, UnreadableResult
from pudle.files import read_record, write_record
from pudle.measuring.provenance import NoRepository, git, machine
from pudle.measuring.run import execute
from pudle.measuring.selection import Selection
from pudle.workers import run

#: The profile's folder in a submission, the file of its estimator, and its manifest.
PROFILE, ESTIMATOR, MANIFEST = "leaderboard", "estimator.py", "submission.json"
#: What times are measured beside: the ratio to it means the same on every machine of one kind.
YARDSTICK = "backprop"
#: Cases with their profile: dense dictionaries, photographs, and two problems with a scalar
#: parameter.
CASES = (("quick", "*"), ("default", "penalty_selection-*"), ("default", "ridge-*"))
DEPTHS, TIMED_DEPTHS = (10, 50, 100, 200, 400), (10, 100)
#: All that the process of another person's code sees of this one's environment.
KEPT = ("PATH", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV")
#: What was measured on the way and is not handed in.
ON_THE_WAY = ("store/references", "results", "runs", "lock", "asv.conf.json")
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
    pudle: str
    date: str
    machine: dict[str, Any]
    #: SHA-256 of every other file of the submission, by its place.
    files: dict[str, str]
    statement: str = STATEMENT

    @property
    def digest(self) -> str:
        """The digest of all files, by which a score computed again is kept."""
        return hashlib.sha256(repr(sorted(self.files.items())).encode()).hexdigest()[:16]


def selection(*estimators: str) -> Selection:
    """Return what a submission measures: some estimators, on the cases of the leaderboard."""
    profiles = names.list_profiles()
    cases = tuple(
        replace(case, seeds=case.seeds[:3], depths=DEPTHS)
        for profile, pattern in CASES
        for case in profiles[profile].cases
        if fnmatch(case.name, pattern)
    )
    return Selection(PROFILE, cases, estimators, DEPTHS, TIMED_DEPTHS, timeout=300.0)


def write_manifest(folder: Path, estimator: Any, spec: str, person: str) -> None:
    """Write the manifest of a folder that holds everything else."""
    if not re.fullmatch(r"[^<>\n]+ <[^<>@\s]+@[^<>@\s]+>", person):
        raise InvalidArgument(
            f"{person!r} signs nothing off: give a name and an address, as 'Ada Lovelace"
            " <ada@example.org>'"
        )
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    described = estimator.name, spec, estimator.computes, person, pudle.__version__, today
    write_record(folder / MANIFEST, Manifest(*described, machine(), digests(folder)))


def read_submission(folder: Path) -> Manifest:
    """Read a submission, and refuse one whose files are not those that were signed off."""
    manifest = read_record(folder / MANIFEST, Manifest, remedy="run `pudle submit` again")
    changed = sorted(digests(folder).items() ^ manifest.files.items())[:1]
    name, spec = manifest.name, manifest.spec
    file = names.file_of(names.parse(spec)[0])
    taken = getattr(names.list_estimators().get(name), "__module__", "")
    reasons = {
        f"{', '.join(dict(changed))} is not what was signed off: run `pudle submit` again": changed,
        f"the folder must be called as its estimator, {name!r:.80}": (
            name != folder.name or not name.isidentifier()
        ),
        f"{spec!r:.80} is not the file that was handed in, {ESTIMATOR}": (
            not file or file[0] != Path(ESTIMATOR)
        ),
        f"{name} is the name of a built-in estimator: choose another": taken.startswith("pudle."),
    }
    for reason, holds in reasons.items():
        if holds:
            raise UnreadableResult(f"{folder.name}: {reason}")
    return manifest


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a submission but its manifest, by its place."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
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


def measure_apart(folder: Path, home: Path, specs: list[str], *, scores_only: bool) -> None:
    """Measure estimators, whose specs are relative to a folder, in a process that sees nothing of
    this one's environment; with times and memory the results are kept to be handed in.
    """
    environment = {name: os.environ[name] for name in KEPT if name in os.environ}
    home.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", __name__, home.resolve(), "scores" * scores_only, *specs]
    done = run([*map(str, command)], cwd=folder, env=environment | {"HOME": str(home)})
    if done.returncode:
        reason = done.stderr.strip().rpartition("\n")[2] or "no reason given"
        raise PudleError(f"{folder.name} cannot be measured: {reason}")


if __name__ == "__main__":
    place, only_scores, *estimators = sys.argv[1:]
    execute(selection(*estimators), home=Path(place), scores_only=bool(only_scores))
