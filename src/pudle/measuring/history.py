"""asv's results of one commit, written from the store, for asv to draw over commits.

`asv run` would measure all times again, in a process for each number, and of a run that is killed
it keeps nothing; so the store is filled first, and what it holds becomes a result of asv's here.
Nothing is made of a spec: the benchmarks of the accuracy get the records that the run lists, and
times and memory are the stored ones.
"""

import ast
import contextlib
import hashlib
import io
import itertools
import json
import math
import os
import platform
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import names
from ..files import write_atomically
from ..workers import run_in_copy
from .provenance import git
from .selection import SELECTION_VARIABLE
from .store import Stored, read_stored
from .stored_files import RunList

if TYPE_CHECKING:
    from asv.results import Results

#: What asv knows of a benchmark; its parameters are lists of texts that stand for Python values.
Benchmark = dict[str, Any]


def update_history(folder: Path, root: Path, commit: str) -> list[tuple[str, str]]:
    """Write asv's results of a commit of the repository at `root` from the store, unless they are
    those of the files that the run lists; return what failed and why, in one pair or none.

    Nothing is written where the times of all these files, and of asv's list of benchmarks, are
    those that were noted in ``runs/COMMIT.history`` the last time. Otherwise asv's configuration is
    written, a forked copy of this process writes the results, and the times are noted anew. Imports
    the benchmarks, and runs git.
    """
    run, path = RunList.read(folder / "run.json"), folder / "runs" / f"{commit}.history"

    def state() -> str:
        """Return a digest of the selection, and of the times of change of the listed records, of
        asv's results of the commit, and of its list of benchmarks.
        """
        files = [folder / "store" / str(row[-1]) for row in (*run.records, *run.costs)]
        files += sorted(folder.glob(f"results/*/{commit[:8]}-*.json"))
        files.append(folder / "results" / "benchmarks.json")
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

    What was measured before stays: the list keeps benchmarks and parameters that the selection has
    no more, and a result file of the commit keeps their values. Every result file gets the cells of
    the list that it lacks. Sets the environment variable of the selection, and imports asv and the
    benchmarks. `date` is in milliseconds.
    """
    # Slow to import, and only needed here.
    from asv import benchmarks, config, machine, results, runner, util
    from asv_runner.discovery import get_benchmark_from_name, list_benchmarks

    os.environ[SELECTION_VARIABLE] = str(folder / "selection.json")
    configuration = config.Config()
    configuration.results_dir = str(folder / "results")
    text = io.StringIO()
    list_benchmarks(benchmark_dir, text)
    selected = {benchmark["name"]: benchmark for benchmark in json.loads(text.getvalue())}
    earlier: list[Benchmark] = []
    # Before the first result there is no list, and a damaged one begins anew.
    with contextlib.suppress(util.UserError):
        earlier += benchmarks.Benchmarks.load(configuration).values()
    earlier += _measured_benchmarks(selected, results.iter_results(configuration.results_dir))
    drawn = _union(selected, earlier)
    benchmarks.Benchmarks(configuration, drawn.values()).save()
    this_machine = machine.Machine.get_defaults()
    machine_file = folder / "results" / this_machine["machine"] / "machine.json"
    util.write_json(str(machine_file), this_machine, machine.Machine.api_version)
    # asv's own name for an existing environment holds the path of its interpreter.
    python = platform.python_version()
    content = results.Results(this_machine, {}, commit, date, python, f"existing-py{python}", {})
    with contextlib.suppress(util.UserError):
        content.load_data(configuration.results_dir)
    stored = read_stored(folder.parent, folder.name)
    listed_benchmarks = _union(selected, _measured_benchmarks(selected, [content]))
    for name, benchmark in selected.items():
        function = get_benchmark_from_name(benchmark_dir, name).func
        look_up = _accuracy_value if benchmark["type"] == "track" else _cost_value
        values = _cell_values(content, benchmark)
        for cell in itertools.product(*benchmark["params"]):
            values[cell] = look_up(stored, function, *map(ast.literal_eval, cell))
        cells = itertools.product(*listed_benchmarks[name]["params"])
        # Of a cell that was never selected asv reads NaN, and None of one that failed.
        ordered = [values.get(cell, math.nan) for cell in cells]
        # asv makes one number of samples.
        samples = [value if isinstance(value, list) else None for value in ordered]
        counts = [1 if cell_samples else None for cell_samples in samples]
        measured = runner.BenchmarkResult(ordered, samples, counts, 0, "", None)
        content.add_result(listed_benchmarks[name], measured, record_samples=True)
    content.save(configuration.results_dir)
    for place, file_name, _ in results.iter_results_paths(configuration.results_dir):
        _add_unmeasured_cells(Path(place, file_name), drawn)


def _add_unmeasured_cells(path: Path, drawn: Mapping[str, Benchmark]) -> None:
    """Give one of asv's result files all the cells that its benchmarks have in the list of
    benchmarks, with NaN for those that it lacks: asv shows NaN as n/a, and a cell that a file lacks
    as failed.

    Benchmarks that the file does not have, or has of another version, stay as they are, and so does
    a file that asv cannot read.
    """
    from asv import results, util

    with contextlib.suppress(util.UserError):
        content = util.load_json(str(path), api_version=results.Results.api_version)
        is_changed = False
        for name, row in content["results"].items():
            columns = dict(zip(content["result_columns"], row, strict=False))
            benchmark = drawn.get(name)
            if not benchmark or columns["version"] != benchmark["version"]:
                continue
            if columns["params"] == benchmark["params"]:
                continue
            known_cells = [*itertools.product(*columns["params"])]
            # asv writes one null where all cells failed.
            columns["result"] = columns["result"] or [None] * len(known_cells)
            for column, values in columns.items():
                if isinstance(values, list) and column != "params":
                    unmeasured = math.nan if column == "result" else None
                    by_cell = dict(zip(known_cells, values, strict=True))
                    cells = itertools.product(*benchmark["params"])
                    columns[column] = [by_cell.get(cell, unmeasured) for cell in cells]
            columns["params"] = benchmark["params"]
            content["results"][name], is_changed = [*columns.values()], True
        if is_changed:
            util.write_json(str(path), content, results.Results.api_version, compact=True)


def _measured_benchmarks(
    selected: Mapping[str, Benchmark], results: Iterable["Results"]
) -> Iterator[Benchmark]:
    """Yield the benchmarks that asv's results have values of, with their parameters.

    A result file has no more of a benchmark than name, parameters and version. The rest is that of
    a selected one of the same module and method, such as that of another case; where none is
    selected, or the version is another, the benchmark is left out.
    """
    templates = {_module_and_method(name): benchmark for name, benchmark in selected.items()}
    for result in results:
        for name in result.get_all_result_keys():
            template = templates.get(_module_and_method(name))
            if template and template["version"] == result.benchmark_version.get(name):
                yield {**template, "name": name, "params": result.get_result_params(name)}


def _module_and_method(name: str) -> tuple[str, str]:
    """Return the first and the last part of a benchmark's name, between which its class stands."""
    parts = name.split(".")
    return parts[0], parts[-1]


def _union(selected: Mapping[str, Benchmark], earlier: Iterable[Benchmark]) -> dict[str, Benchmark]:
    """Return the selected benchmarks and earlier ones by name, each with all of its parameters in
    sorted order, so that the order of commands changes nothing.

    Where a selected benchmark has another version than an earlier one, asv reads no value of the
    latter.
    """
    union: dict[str, Benchmark] = {}
    for benchmark in (*selected.values(), *earlier):
        known = union.setdefault(benchmark["name"], benchmark)
        if known["version"] == benchmark["version"]:
            axes = zip(known["params"], benchmark["params"], strict=True)
            merged = [
                sorted({*known_values, *new_values}, key=ast.literal_eval)
                for known_values, new_values in axes
            ]
            union[benchmark["name"]] = {**known, "params": merged}
    return union


def _cell_values(content: "Results", benchmark: Benchmark) -> dict[tuple[str, ...], Any]:
    """Return what asv's results of one commit, `content`, hold of a benchmark, by the values of its
    parameters: the samples of a cell or, where there are none, its value. Nothing is returned if
    they are of another version of the benchmark.
    """
    name = benchmark["name"]
    if content.benchmark_version.get(name) != benchmark["version"]:
        return {}
    parameters = content.get_result_params(name)
    samples = content.get_result_samples(name, parameters)
    values = content.get_result_value(name, parameters)
    return {
        cell: cell_samples or value
        for cell, cell_samples, value in zip(
            itertools.product(*parameters), samples, values, strict=True
        )
    }


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
    """Return the value that asv gets for a cell of a benchmark of costs: all samples of a time or,
    of a memory, the peak plus what the process had before. NaN stands for a cell that is skipped or
    not measured, None for one that failed.

    `function`, the method of a benchmark, says which case and which metric; it is not called.
    """
    cells = function.__self__
    record = stored.costs.get((cells.metric, cells.case.name, estimator, depth))
    if record is None or record.status == "skipped":
        return math.nan
    if record.value is not None and record.baseline is not None:
        return record.value + record.baseline
    return record.samples or record.value
