"""asv's results of one commit, written from the store, for asv to draw over commits.

`asv run` would measure all times again, in a process for each number, and of a run that is killed
it keeps nothing; so the store is filled first, and what it holds becomes a result of asv's here.
Nothing is made of a spec: the benchmarks of the accuracy get the records that the run lists, and
times and memory are the stored ones.
"""

import ast
import hashlib
import io
import itertools
import json
import math
import os
import platform
from pathlib import Path
from typing import Any

from .. import names
from ..files import write_atomically
from ..workers import run_in_copy
from .provenance import git
from .selection import SELECTION_VARIABLE
from .store import Stored, read_stored
from .stored_files import RunList


def update_history(folder: Path, root: Path, commit: str) -> list[tuple[str, str]]:
    """Write asv's results of a commit of the repository at `root` from the store, unless they are
    those of the files that the run lists; return what failed and why, in one pair or none.

    Nothing is written where the times of all these files are those that were noted in
    ``runs/COMMIT.history`` the last time. Otherwise asv's configuration is written, a forked copy
    of this process writes the results, and the times are noted anew. Imports the benchmarks, and
    runs git.
    """
    run, path = RunList.read(folder / "run.json"), folder / "runs" / f"{commit}.history"

    def state() -> str:
        """Return a digest of the selection, and of the times of change of the listed records and of
        asv's results of the commit.
        """
        files = [folder / "store" / str(row[-1]) for row in (*run.records, *run.costs)]
        files += sorted(folder.glob(f"results/*/{commit[:8]}-*.json"))
        times = [(file, file.stat().st_mtime_ns if file.exists() else None) for file in files]
        return hashlib.sha256(repr((run.selection, times)).encode()).hexdigest()

    if path.is_file() and path.read_text() == state():
        return []
    benchmarks = names.entries("benchmarks")["asv"].__path__[0]
    configure(folder, root, benchmarks)
    seconds = git(root, "show", "--no-patch", "--format=%ct", commit)
    # In a copy, because the benchmarks read their selection when they are imported.
    outcome = run_in_copy(_write, folder, benchmarks, commit, 1000 * int(seconds))
    if outcome.status != "ok":
        return [("asv's history of commits was not written", outcome.reason)]
    write_atomically(path, state())
    return []


def configure(folder: Path, root: Path, benchmarks: str) -> None:
    """Write asv's configuration, ``asv.conf.json``, into a folder of results of the repository at
    `root`.

    asv works in the folder of its configuration, which can therefore be copied elsewhere with all
    that it names: paths are relative, and its folders there are asv's default ones. Environments
    exist already.
    """
    content = {
        "version": 1,
        "project": "pudle",
        "branches": ["HEAD"],
        "environment_type": "existing",
        "repo": os.path.relpath(root, folder),
        "benchmark_dir": os.path.relpath(benchmarks, folder),
    }
    write_atomically(folder / "asv.conf.json", json.dumps(content, indent=1))


def _write(folder: Path, benchmark_dir: str, commit: str, date: int) -> None:
    """Write asv's results of a commit from the store of a folder, with the list of benchmarks and a
    file about this machine beside them.

    Sets the environment variable of the selection, and imports asv and the benchmarks. `date` is in
    milliseconds.
    """
    # Slow to import, and only needed here.
    from asv import benchmarks, config, machine, results, runner, util
    from asv_runner.discovery import get_benchmark_from_name, list_benchmarks

    os.environ[SELECTION_VARIABLE] = str(folder / "selection.json")
    configuration = config.Config()
    configuration.results_dir = str(folder / "results")
    text = io.StringIO()
    list_benchmarks(benchmark_dir, text)
    listed = benchmarks.Benchmarks(configuration, json.loads(text.getvalue()))
    listed.save()
    this_machine = machine.Machine.get_defaults()
    machine_file = folder / "results" / this_machine["machine"] / "machine.json"
    util.write_json(str(machine_file), this_machine, machine.Machine.api_version)
    # asv's own name for an existing environment holds the path of its interpreter.
    python = platform.python_version()
    content = results.Results(this_machine, {}, commit, date, python, f"existing-py{python}", {})
    stored = read_stored(folder.parent, folder.name)
    for name, benchmark in listed.items():
        parameters = [[ast.literal_eval(value) for value in axis] for axis in benchmark["params"]]
        function = get_benchmark_from_name(benchmark_dir, name).func
        look_up = _accuracy_value if benchmark["type"] == "track" else _cost_value
        values = [look_up(stored, function, *cell) for cell in itertools.product(*parameters)]
        # asv makes one number of samples.
        samples = [value if isinstance(value, list) else None for value in values]
        counts = [1 if cell_samples else None for cell_samples in samples]
        measured = runner.BenchmarkResult(values, samples, counts, 0, "", None)
        content.add_result(benchmark, measured, record_samples=True)
    content.save(configuration.results_dir)


def _accuracy_value(stored: Stored, function: Any, estimator: str, depth: int) -> float | None:
    """Return the value of a benchmark of the accuracy for a cell: NaN where it skips the cell or
    the run lists no score of it, None where it fails.
    """
    try:
        function.__self__.look_up(stored.scores[function.__self__.case.name, estimator], depth)
        return float(function(estimator, depth))
    except (NotImplementedError, KeyError):
        return math.nan
    except RuntimeError:
        return None


def _cost_value(
    stored: Stored, function: Any, estimator: str, depth: int
) -> float | list[float] | None:
    """Return the samples of a time, or a peak together with the memory of the process that it was
    measured in; NaN where a cell is skipped or not measured, None where it failed.
    """
    cells = function.__self__
    record = stored.costs.get((cells.metric, cells.case.name, estimator, depth))
    if record is None or record.status == "skipped":
        return math.nan
    if record.value is not None and record.baseline is not None:
        return record.value + record.baseline
    return record.samples or record.value
