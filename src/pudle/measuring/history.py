"""asv's results of one commit, written from the store, for asv to draw over commits.

`asv run` would measure all times again, in a process for each number, and of a run that is killed
it keeps nothing; so the store is filled first, and what it holds becomes a result of asv's here.
The benchmarks of the accuracy look their values up in the store, here as under `asv run`; times and
memory are the stored ones.

As a script, ``python -m pudle.measuring.history CONFIGURATION COMMIT`` writes them, where
CONFIGURATION is asv's, beside the store: its benchmarks read their selection when they are
imported.
"""

from __future__ import annotations

import ast
import contextlib
import datetime
import hashlib
import io
import itertools
import json
import math
import os
import platform
import sys
from pathlib import Path
from typing import Any

from .. import names, workers
from ..errors import UnreadableResult
from ..files import write_atomically
from .contents import CostRecord, RunList
from .provenance import git
from .selection import SELECTION_VARIABLE

#: asv's names of the costs.
BENCHMARKS = {
    "memory_bytes": "memory.Memory.peakmem_estimate",
    "seconds": "timing.Time.time_estimate",
    "seconds_torch": "timing.TorchTime.time_estimate",
}
ALONE = "memory.ProblemAlone.peakmem_problem"


def update_history(folder: Path, root: Path, commit: str) -> list[tuple[str, str]]:
    """Write asv's results of a commit of the repository at `root` from the store, unless they are
    those of the files that the run lists; return what failed and why.
    """
    run, path = RunList.read(folder / "run.json"), folder / "runs" / f"{commit}.history"

    def state() -> str:
        files = [folder / "store" / str(listed[-1]) for listed in (*run.records, *run.costs)]
        files += sorted(folder.glob(f"results/*/{commit[:8]}-*.json"))
        changed = [(file, file.stat().st_mtime_ns if file.exists() else None) for file in files]
        return hashlib.sha256(repr((run.selection, changed)).encode()).hexdigest()

    if path.exists() and path.read_text() == state():
        return []
    # asv works in the folder of its configuration, which can therefore be copied elsewhere with all
    # that it names. Environments exist already.
    content: dict[str, Any] = {"version": 1, "project": "pudle", "branches": ["HEAD"]}
    benchmarks = names.entries("benchmarks")["asv"].__path__[0]
    content |= {"environment_type": "existing", "repo": os.path.relpath(root, folder)}
    content |= {"benchmark_dir": os.path.relpath(benchmarks, folder)}
    content |= {f"{name}_dir": name for name in ("results", "html", "env")}
    configuration = folder / "asv.conf.json"
    write_atomically(configuration, json.dumps(content, indent=1))
    # Paths in the selection are seen from the folder that this process works in.
    done = workers.run([sys.executable, "-m", __name__, configuration, commit])
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        return [("asv's history of commits was not written", why)]
    write_atomically(path, state())
    return []


def write_history(folder: Path, path: str, commit: str) -> None:
    """Write asv's results of a commit from the store of a folder, with the configuration at a
    path.
    """
    # Slow to import, and only needed here.
    from asv import benchmarks, config, machine, results, runner, util
    from asv_runner.discovery import get_benchmark_from_name, list_benchmarks

    configuration = config.Config.load(path)
    # asv itself would work in that folder; here it is the one that paths in the selection are seen
    # from.
    configuration.results_dir = str(folder / configuration.results_dir)
    benchmark_dir = str((folder / configuration.benchmark_dir).resolve())
    os.environ[SELECTION_VARIABLE] = str(folder / "selection.json")
    text = io.StringIO()
    list_benchmarks(benchmark_dir, text)
    listed = benchmarks.Benchmarks(configuration, json.loads(text.getvalue()))
    listed.save()
    here = machine.Machine.get_defaults()
    kept = folder / "results" / here["machine"] / "machine.json"
    util.write_json(str(kept), here, machine.Machine.api_version)
    seconds = git(folder / configuration.repo, "show", "--no-patch", "--format=%ct", commit)
    # asv's own name for an existing environment holds the path of its interpreter.
    python = platform.python_version()
    environment = f"existing-py{python}"
    content = results.Results(here, {}, commit, 1000 * int(seconds), python, environment, {})
    stored = _stored(folder)
    for name, benchmark in listed.items():
        parameters = [[ast.literal_eval(value) for value in axis] for axis in benchmark["params"]]
        values = [
            stored.get((name, *cell), math.nan)
            if benchmark["type"] != "track"
            else _looked_up(get_benchmark_from_name(benchmark_dir, f"{name}-{number}"))
            for number, cell in enumerate(itertools.product(*parameters))
        ]
        samples = [value if isinstance(value, list) else None for value in values]
        plain = [value[0] if isinstance(value, list) else value for value in values]
        numbers = [1 if each else None for each in samples]
        measured = runner.BenchmarkResult(plain, samples, numbers, 0, "", None)
        now = datetime.datetime.now(datetime.UTC)
        content.add_result(benchmark, measured, started_at=now, record_samples=True)
    content.save(configuration.results_dir)


def _looked_up(benchmark: Any) -> float | None:
    """Return what a benchmark of the accuracy gives for a cell: NaN where it skips the cell, None
    where it fails.
    """
    try:
        return math.nan if benchmark.do_setup() else float(benchmark.do_run())
    except NotImplementedError:
        return math.nan
    except RuntimeError:
        return None


def _stored(folder: Path) -> dict[tuple[Any, ...], Any]:
    """Return the stored costs by benchmark and parameters, with samples for times, and None where
    something broke.
    """
    values: dict[tuple[Any, ...], Any] = {}
    for metric, *cell, place in RunList.read(folder / "run.json").costs:
        with contextlib.suppress(UnreadableResult):
            record = CostRecord.read(folder / "store" / place)
            value: Any = record.samples or record.value
            if record.value is not None and record.baseline is not None:
                value = record.value + record.baseline
                values[ALONE, record.case] = record.baseline
            skipped = record.status == "skipped"
            values[BENCHMARKS[metric], *cell] = math.nan if skipped else value
    return values


if __name__ == "__main__":
    write_history(Path(sys.argv[1]).parent, *sys.argv[1:])
