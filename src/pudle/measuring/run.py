"""One run: freeze the selection, fill the store, then let asv track, time and measure memory."""

from __future__ import annotations

import dataclasses
import importlib.resources
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ..files import read_json, write_atomically
from .attended import attended, run_attended
from .contents import RunList
from .locking import locked
from .provenance import NoRepository, check_installed, commit_of, repository
from .runner import fill
from .selection import SELECTION_VARIABLE, Selection
from .statuses import BROKEN
from .store import Store

#: One thread per process, whichever library does the arithmetic; jax reads NPROC.
ONE_THREAD = dict.fromkeys("OMP_NUM_THREADS MKL_NUM_THREADS OPENBLAS_NUM_THREADS NUMEXPR_NUM_THREADS NPROC".split(), "1")
#: Called with the stage of a run (scores, or time and memory) and then as a `ProgressCallback`.
StageProgress = Callable[[str, int, int, str], None]


class RunSummary(NamedTuple):
    """The profile's folder, the new results by kind of task, and a line for each pair or experiment without a number.

    `findings` are the lines where the problem is the cause, and `broken` those where something broke.
    """

    folder: Path
    records: dict[str, list[dict[str, Any]]]
    findings: list[str]
    broken: list[str]


def execute(selection: Selection, *, home: Path | None, workers: int, scores_only: bool, show: StageProgress) -> RunSummary:
    """Carry out a run.

    It is refused, before anything is written, if there is no repository to label results with, the installed package is not
    the checkout's, or another run holds the profile's folder.
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
    store = Store(folder / "store", selection.profile, selection.device, commit, dirty)
    with locked(folder, "run"):
        # A run of experiments alone must not make a report forget the cases that were measured before.
        if selection.cases or not (folder / "selection.json").exists():
            selection.write(folder / "selection.json")
        os.environ.update(ONE_THREAD)
        results = fill(selection, store, workers, progress=partial(show, "scores"))
        if commit:
            _remember(folder, store, selection)
        measured = [(f"{spec} on {case.name}", store.read(case, spec)) for case, spec in selection.pairs]
        measured += [(name, store.read_experiment(name)) for name in selection.experiments]
        summary = RunSummary(folder, results, [], [])
        for name, record in measured:
            if record and (record["status"] != "ok" or record["reason"]):
                lines = summary.broken if record["status"] in BROKEN else summary.findings
                lines.append(f"{name}: {record['status']}: {record['reason']}")
        if selection.cases and not scores_only:
            summary.broken.extend(_asv(folder, root, commit, selection, show))
    return summary


def _remember(folder: Path, store: Store, selection: Selection) -> None:
    """Write down which records hold at this commit, those of experiments beside those of earlier runs at it.

    A record is kept as long as nothing that it depends on changes, and carries the commit that first measured it. Without
    this list nobody could tell later what held at a commit in between.
    """
    label: dict[str, Any] = {"commit": store.commit, "dirty": store.dirty}
    # A run with uncommitted changes must not pass for the commit it started from.
    name = f"{store.commit}{'-dirty' if store.dirty else ''}.json"

    def existing(paths: Iterable[Path]) -> list[str]:
        return [str(path.relative_to(store.folder)) for path in paths if path.exists()]

    if selection.cases:
        records = existing(store.path(*pair) for pair in selection.pairs)
        content = label | {"selection": dataclasses.asdict(selection), "records": records}
        write_atomically(folder / "runs" / name, json.dumps(content, indent=1))
    if selection.experiments:
        path = folder / "runs" / "experiments" / name
        known = read_json(path, RunList)["experiments"] if path.exists() else []
        held = {*known, *existing(map(store.experiment_path, selection.experiments))}
        write_atomically(path, json.dumps(label | {"experiments": sorted(held)}, indent=1))


def write_asv_configuration(folder: Path, repository: Path, benchmarks: str) -> Path:
    """Write asv's configuration and return its path: existing environments, with the results in the same folder.

    The commits of `repository` label the results, and `benchmarks` is the folder of the benchmarks.
    """
    path = folder / "asv.conf.json"
    content = {"version": 1, "project": "pudle", "repo": str(repository), "branches": ["HEAD"]}
    content |= {"environment_type": "existing", "benchmark_dir": benchmarks}
    content |= {f"{name}_dir": str(folder / name) for name in ("results", "html", "env")}
    write_atomically(path, json.dumps(content, indent=1))
    return path


def _asv(folder: Path, root: Path, commit: str, selection: Selection, show: StageProgress) -> list[str]:
    """Run asv over the frozen selection; return one line if it fails, and none otherwise."""
    configuration = str(write_asv_configuration(folder, root, str(importlib.resources.files("pudle.bench"))))
    environment = os.environ | {SELECTION_VARIABLE: str(folder / "selection.json")}
    asv = [sys.executable, "-m", "asv"]
    run_attended([*asv, "machine", "--yes", "--config", configuration], env=environment)
    command = [
        *asv, "run", "--config", configuration, "-E", f"existing:{sys.executable}", "--set-commit-hash", commit,
        # CUDA cannot be used in a forked process.
        "--launch-method", "spawn" if selection.device == "cuda" else "forkserver",
        "--record-samples", "--show-stderr", "--durations", "10",
    ]  # fmt: skip
    log = folder / "asv.log"
    pipe: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with log.open("w") as output, attended(command, env=environment, cwd=folder, **pipe) as process:
        for line in process.stdout:
            output.write(line)
            match = re.match(r"\[\s*([\d.]+)%\]\s*\W+\s*(?:Running \()?([\w.]+)", line)
            if match:
                show("time and memory", int(float(match.group(1))), 100, match.group(2))
        process.wait()
    shutil.rmtree(folder / "env", ignore_errors=True)
    return [f"asv ended with exit code {process.returncode}: see {log}"] if process.returncode else []
