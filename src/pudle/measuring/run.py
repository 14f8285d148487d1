"""One run: freeze the selection, fill the store, then let asv track, time and measure memory."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import PudleError
from ..files import read_json, write_atomically
from . import runner
from .case import SELECTION_VARIABLE, Selection
from .provenance import NoRepository, check_installed, commit_of, repository
from .store import Store

#: One thread per process, whichever library does the arithmetic; NPROC is what holds jax to it.
ONE_THREAD = {
    name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "NPROC")
}

Show = Callable[[str, str, float, float], None]


@dataclass(frozen=True)
class RunSummary:
    """What a run did.

    Attributes
    ----------
    folder : Path
        The profile's folder.
    records : list of dict
        Records that were computed now.
    findings : list of str
        Pairs without a number for a reason that lies in the problem, one line each.
    broken : list of str
        What broke, one line each.
    experiments : int
        Experiments that were carried out now.
    """

    folder: Path
    records: list[dict]
    findings: list[str]
    broken: list[str]
    experiments: int = 0


def execute(selection: Selection, *, home: Path | None, workers: int, scores_only: bool, show: Show) -> RunSummary:
    """Carry out a run.

    Raises
    ------
    PudleError
        Before anything is written, if there is no repository to label results with, the installed package is not the
        checkout's, or another run holds the profile's folder.
    """
    try:
        root = repository(Path.cwd())
        check_installed(root)
        commit, dirty = commit_of(root)
    except NoRepository:
        if not scores_only:
            raise
        root, commit, dirty = Path.cwd(), "", False
    folder = (home or root / ".asv").resolve() / selection.profile
    with _locked(folder):
        # A run of experiments alone must not make a report forget the cases that were measured before.
        if selection.cases or not (folder / "selection.json").exists():
            selection.write(folder / "selection.json")
        os.environ.update(ONE_THREAD)
        store = Store(folder / "store", selection.profile, selection.device)
        experiments = len(runner.missing_experiments(selection, store))
        records = runner.fill(
            selection, store, workers, commit=commit, dirty=dirty, progress=lambda *step: show("scores", *step)
        )
        if commit and selection.cases:
            _remember(folder, store, selection, commit, dirty)
        if commit and selection.experiments:
            _remember_experiments(folder, store, selection, commit, dirty)
        asv_failure = None if scores_only or not selection.cases else _asv(folder, root, commit, selection, show)
    current = [store.read(case, spec) for case in selection.cases for spec in selection.estimators]
    lines = {True: [], False: []}
    for record in current:
        if record and record["status"] != "ok":
            line = f"{record['estimator']} on {record['case']['name']}: {record['status']}: {record['reason']}"
            lines[record["status"] in runner.BROKEN].append(line)
    for name in selection.experiments:
        done = store.read_experiment(name)
        if done and done["reason"]:
            lines[done["status"] in runner.BROKEN].append(f"{name}: {done['status']}: {done['reason']}")
    broken = lines[True] + ([asv_failure] if asv_failure else [])
    return RunSummary(folder, records, lines[False], broken, experiments)


def _remember(folder: Path, store: Store, selection: Selection, commit: str, dirty: bool) -> None:
    """Write down which records hold at this commit.

    A record is kept as long as nothing it depends on changes, and carries the commit that first measured it: without this,
    what held at a commit in between could not be told afterwards.
    """
    pairs = [(case, spec) for case in selection.cases for spec in selection.estimators]
    paths = [store.path(*pair) for pair in pairs]
    content = {
        "commit": commit,
        "dirty": dirty,
        "selection": dataclasses.asdict(selection),
        "records": [str(path.relative_to(store.folder)) for path in paths if path.exists()],
    }
    # A run with uncommitted changes must not pass for the commit it started from.
    write_atomically(folder / "runs" / f"{commit}{'-dirty' if dirty else ''}.json", json.dumps(content, indent=1))


def _remember_experiments(folder: Path, store: Store, selection: Selection, commit: str, dirty: bool) -> None:
    """Write down which experiments hold at this commit, beside those of earlier runs at it."""
    path = folder / "runs" / "experiments" / f"{commit}{'-dirty' if dirty else ''}.json"
    known = read_json(path)["experiments"] if path.exists() else []
    paths = map(store.experiment_path, selection.experiments)
    held = {str(path.relative_to(store.folder)) for path in paths if path.exists()}
    content = {"commit": commit, "dirty": dirty, "experiments": sorted({*known, *held})}
    write_atomically(path, json.dumps(content, indent=1))


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "lock", timeout=0):
            yield
    except Timeout:
        raise PudleError(f"another run is writing to {folder}: wait for it to end, or choose another --home") from None


def _asv(folder: Path, root: Path, commit: str, selection: Selection, show: Show) -> str | None:
    """Run asv over the frozen selection; return one line about what failed, or None."""
    configuration = folder / "asv.conf.json"
    (benchmarks,) = find_spec("pudle.bench").submodule_search_locations
    content = {
        "version": 1,
        "project": "pudle",
        "repo": str(root),
        "branches": ["HEAD"],
        "environment_type": "existing",
        "benchmark_dir": benchmarks,
        "results_dir": str(folder / "results"),
        "html_dir": str(folder / "html"),
        "env_dir": str(folder / "env"),
    }
    write_atomically(configuration, json.dumps(content, indent=1))
    environment = os.environ | ONE_THREAD | {SELECTION_VARIABLE: str(folder / "selection.json")}
    base = [sys.executable, "-m", "asv"]
    subprocess.run([*base, "machine", "--yes", "--config", str(configuration)], env=environment, capture_output=True)
    # CUDA cannot be used in a forked process.
    launch = "spawn" if selection.device == "cuda" else "forkserver"
    command = [
        *base, "run", "--config", str(configuration), "-E", f"existing:{sys.executable}", "--set-commit-hash", commit,
        "--launch-method", launch, "--record-samples", "--show-stderr", "--durations", "10",
    ]  # fmt: skip
    log = folder / "asv.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            for line in process.stdout or ():
                output.write(line)
                match = re.match(r"\[\s*([\d.]+)%\]\s*\W+\s*(?:Running \()?([\w.]+)", line)
                if match:
                    show("time and memory", match.group(2), float(match.group(1)), 100.0)
        finally:
            if process.poll() is None and sys.exc_info()[0]:
                process.terminate()
            process.wait()
    shutil.rmtree(folder / "env", ignore_errors=True)
    return None if process.returncode == 0 else f"asv ended with exit code {process.returncode}: see {log}"
