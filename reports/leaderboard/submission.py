"""A submission: a folder with an estimator's file, its results, and a manifest that is signed off
and holds all digests.
"""

import datetime
import hashlib
import inspect
import os
import re
import stat
import statistics
import sys
from collections import defaultdict
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from msgspec import Meta, Struct

import pudle
from pudle import names
from pudle.errors import InvalidArgument, PudleError, UnreadableResult, UnsupportedProblem
from pudle.estimator import CLAIMS, Estimate, GradientEstimator
from pudle.files import read_record, write_record
from pudle.measuring.provenance import NoRepository, git, machine, source_digest
from pudle.measuring.run import begin, execute, fill, plan
from pudle.measuring.selection import Selection
from pudle.measuring.store import Store
from pudle.workers import (
    ONE_THREAD,
    Copy,
    Here,
    adopting,
    children_seconds,
    limit_memory,
    run,
)

#: The profile's folder in a submission, the file of its estimator, and its manifest.
PROFILE, ESTIMATOR, MANIFEST = "leaderboard", "estimator.py", "submission.json"
#: What times are measured beside: the ratio to it means the same on every machine of one kind.
YARDSTICK = "backprop"
#: Cases with their profile, whose layers the yardstick can differentiate: dense dictionaries,
#: photographs, and two problems with a scalar parameter.
CASES = (("quick", "*ista-*"), ("default", "penalty_selection-*"), ("default", "ridge-*"))
DEPTHS, TIMED_DEPTHS = (10, 50, 100, 200, 400), (10, 100)
#: Seconds that one gradient, or an estimator on one case, may take.
TIMEOUT = 300.0
#: All that the process of another person's code sees of this one's environment.
KEPT = "PATH LANG LC_ALL TMPDIR VIRTUAL_ENV".split()
#: What was measured on the way and is not handed in.
ON_THE_WAY = "store/references results runs lock asv.conf.json".split()
#: What a person who signs off states, as the developer certificate of origin has it for code.
STATEMENT = (
    "I wrote this file, or may publish it under its license, and these results are as `pudle"
    " submit` measured them."
)
#: Who signs off, a name and an address.
PERSON = r"\A[^<>\n]{1,60} <[^<>@\s]{1,60}@[^<>@\s]{1,60}>\Z"


class Manifest(Struct):
    """What the manifest of a submission holds; a stranger may have written it."""

    name: str
    spec: str
    computes: Annotated[str, Meta(pattern=rf"\A({'|'.join(CLAIMS)})\Z")]
    signed_off_by: Annotated[str, Meta(pattern=PERSON)]
    pudle: Annotated[str, Meta(pattern=r"\A[0-9a-z.+]{1,40}\Z")]
    date: Annotated[str, Meta(pattern=r"\A[0-9]{4}(-[0-9]{2}){2}\Z")]
    machine: dict[str, Any]
    #: SHA-256 of every other file of the submission, by its place.
    files: dict[str, str]
    statement: str = STATEMENT

    @property
    def digest(self) -> str:
        """The digest of the spec and all files, by which a score computed again is kept."""
        signed = repr((self.spec, sorted(self.files.items())))
        return hashlib.sha256(signed.encode()).hexdigest()[:16]


def selection(*estimators: str, **changes: Any) -> Selection:
    """Return what a submission measures: some estimators, on the cases of the leaderboard."""
    profiles = names.list_profiles()
    cases = tuple(
        replace(case, seeds=case.seeds[:3], depths=DEPTHS)
        for profile, pattern in CASES
        for case in profiles[profile].cases
        if fnmatch(case.name, pattern)
    )
    return replace(
        Selection(PROFILE, cases, estimators, DEPTHS, TIMED_DEPTHS, timeout=TIMEOUT), **changes
    )


def unfit(name: str) -> str:
    """Return why a submission cannot have a name, an empty text if it can: the page must not show
    two estimators as one.
    """
    if not re.fullmatch(r"[A-Za-z]\w{0,59}", name, re.ASCII):
        return (
            f"{name!r:.80} is no name of a submission: use at most 60 ASCII letters, digits and _"
        )
    taken = {
        each
        for key, cls in names.list_estimators().items()
        if cls.__module__.startswith("pudle.")
        for each in (key, *cls.aliases)
    }
    if look(name) in map(look, taken):
        return f"{name} is the name of a built-in estimator, or looks like it: choose another"
    return ""


def look(name: str) -> str:
    """Return what names that look alike have in common."""
    return name.lower().translate(str.maketrans("oil", "011", "_"))


def write_manifest(folder: Path, estimator: Any, spec: str, person: str) -> None:
    """Write the manifest of a folder that holds everything else."""
    if not re.search(PERSON, person):
        raise InvalidArgument(
            f"{person!r} signs nothing off: give a name and an address, as 'Ada Lovelace"
            " <ada@example.org>'"
        )
    today = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}"
    described = estimator.name, spec, estimator.computes, person, pudle.__version__, today
    write_record(folder / MANIFEST, Manifest(*described, machine(), digests(folder)))


def read_submission(folder: Path) -> Manifest:
    """Read a submission, and refuse one whose files are not those that were signed off."""
    found = digests(folder)
    manifest = read_record(folder / MANIFEST, Manifest, remedy="run `pudle submit` again")
    changed = sorted(found.items() ^ manifest.files.items())[:1]
    name, spec = manifest.name, manifest.spec
    file = names.file_of(names.parse(spec)[0])
    reasons = {
        f"{', '.join(dict(changed))} is not what was signed off: run `pudle submit` again": changed,
        f"{spec!r:.80} is not the file that was handed in, {ESTIMATOR}": (
            not file or file[0] != Path(ESTIMATOR)
        ),
        unfit(name): unfit(name),
        f"the folder must be called as its estimator, {name!r:.80}": name != folder.name,
    }
    for reason, holds in reasons.items():
        if holds:
            raise UnreadableResult(f"{folder.name}: {reason}")
    return manifest


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a submission but its manifest, by its place; refuse what
    is no part of a submission: a link could lead to a device, or to our own scores.
    """
    found = {}
    for path in [folder, *folder.rglob("*")]:
        mode, place = path.lstat().st_mode, path.relative_to(folder)
        plain = stat.S_ISREG(mode) or stat.S_ISDIR(mode)
        if not plain or {*place.parts[:1]} - {PROFILE, ESTIMATOR, MANIFEST}:
            raise UnreadableResult(f"{folder.name}: {place} is no part of a submission: remove it")
        if stat.S_ISREG(mode) and place != Path(MANIFEST):
            found[place.as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def author() -> str:
    """Return the author that git knows, or refuse to sign anything off."""
    try:
        words = [git(Path.cwd(), "config", f"user.{part}") for part in ("name", "email")]
    except NoRepository:
        raise InvalidArgument(
            "git knows no author: give --signed-off-by 'NAME <ADDRESS>'"
        ) from None
    return "{} <{}>".format(*words)


@dataclass(frozen=True)
class Apart(GradientEstimator):
    """An estimator, each of whose gradients comes from a copy of this process, as numbers: this
    process loads no file. The processor time of the copy, and of all that it left behind, is in the
    diagnostics.
    """

    spec: str

    name, computes = "apart", "heuristic"

    def estimate(self, problem: Any, algorithm: Any, depth: int) -> Estimate:
        """Return what the copy sends, or raise what it says."""
        # What torch loads and numba compiles for the first gradient is no estimator's time.
        names.make_estimator(YARDSTICK).estimate(problem, algorithm, 1)

        def numbers() -> list[bytes]:
            limit_memory()
            estimate = names.make_estimator(self.spec).estimate(problem, algorithm, depth)
            tensors = estimate.gradient, estimate.codes
            return [each.detach().cpu().double().numpy().tobytes() for each in tensors]

        before = children_seconds()
        with adopting(), Copy(numbers) as copy:
            outcome = copy.ask(timeout=TIMEOUT)
        if outcome.status != "ok":
            kind = UnsupportedProblem if outcome.status == "unsupported" else PudleError
            raise kind(outcome.reason)
        gradient, codes = (torch.tensor(np.frombuffer(content)) for content in outcome.result)
        return Estimate(
            gradient.view(problem.theta.shape),
            codes.view(problem.code_shape),
            {"seconds": children_seconds() - before},
        )

    def fingerprint(self) -> str:
        """Return the digest of all sources: an estimator's own are none of this class."""
        return source_digest()


def _in_file(spec: str) -> str:
    """Return a spec that names a file: loading takes a built-in estimator as long as others."""
    name, _ = names.parse(spec)
    if names.file_of(name):
        return spec
    cls = names.list_estimators()[name]
    return f"{inspect.getfile(cls)}:{cls.__name__}{spec.removeprefix(name)}"


def score(home: Path, *specs: str) -> None:
    """Score estimators, whose files this process never loads, and write as the time of each
    gradient the processor time of the process that computed it.
    """
    apart = {names.text(each): each for each in map(Apart, map(_in_file, specs))}
    chosen = selection(*apart, costs=("seconds",), timed_depths=DEPTHS)
    store = Store(home / PROFILE / "store", PROFILE)
    with names.holding({("estimators", spec): each for spec, each in apart.items()}):
        tasks = begin(store, chosen)
        fill(plan(tasks), executor=Here())
        for task in tasks:
            samples = defaultdict(list)
            for row in task.record.scores if task.kind == "score" else ():
                if row["status"] == "ok":
                    samples[row["depth"]].append(row["diagnostics"]["seconds"])
            for depth, taken in samples.items():
                cell = "seconds", *task.what, depth
                store.write("cost", *cell, value=statistics.median(taken), samples=taken)


def run_apart(folder: Path, home: Path, *command: Any) -> None:
    """Run a module in a folder of others, without this one's environment and none of its modules
    from there, or raise PudleError with the last line of what it says.
    """
    environment = {name: os.environ[name] for name in KEPT if name in os.environ} | ONE_THREAD
    home.mkdir(parents=True, exist_ok=True)
    environment |= {"HOME": str(home.resolve()), "PYTHONSAFEPATH": "1"}
    done = run([sys.executable, "-m", *map(str, command)], cwd=folder, env=environment)
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise PudleError(f"{folder.name} cannot be measured: {(lines or ['no reason given'])[-1]}")


if __name__ == "__main__":
    how, place, *estimators = sys.argv[1:]
    if how == "score":
        score(Path(place), *estimators)
    else:
        execute(selection(*estimators), home=Path(place))
