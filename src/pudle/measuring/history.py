"""Script that writes asv's results of one commit from the store, for asv to draw over commits.

Usage: ``python -m pudle.measuring.history CONFIGURATION COMMIT``, where CONFIGURATION is asv's,
beside the store. `asv run` would measure all times again, in a process for each number, and of a
run that is killed it keeps nothing; so the store is filled first, and what it holds becomes a
result of asv's here. The benchmarks of the accuracy look their values up in the store, here as
under `asv run`; times and memory are the stored ones.
"""

from __future__ import annotations

import ast
import datetime
import io
import itertools
import json
import math
import os
import platform
import sys
from pathlib import Path
from typing import Any

from asv import benchmarks, config, machine, results, runner, util
from asv_runner.discovery import get_benchmark_from_name, list_benchmarks

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


def main() -> None:
    configuration = config.Config.load(sys.argv[1])
    commit, folder = sys.argv[2], Path(sys.argv[1]).parent
    # asv itself would work in that folder; here it is the one that paths in the selection are seen
    # from.
    configuration.results_dir = str(folder / configuration.results_dir)
    benchmark_dir = str((folder / configuration.benchmark_dir).resolve())
    os.environ[SELECTION_VARIABLE] = str(folder / "selection.json")
    text = io.StringIO()
    list_benchmarks(benchmark_dir, text)
    known = benchmarks.Benchmarks(configuration, json.loads(text.getvalue()))
    known.save()
    here = machine.Machine.get_defaults()
    util.write_json(
        str(folder / "results" / here["machine"] / "machine.json"),
        here,
        machine.Machine.api_version,
    )
    date = 1000 * int(
        git(folder / configuration.repo, "show", "--no-patch", "--format=%ct", commit)
    )
    # asv's own name for an existing environment holds the path of its interpreter.
    python = platform.python_version()
    content = results.Results(here, {}, commit, date, python, f"existing-py{python}", {})
    stored = _stored(folder)
    for name, benchmark in known.items():
        parameters = [[ast.literal_eval(value) for value in axis] for axis in benchmark["params"]]
        values = [
            stored.get(name, {}).get(cell, math.nan)
            if benchmark["type"] != "track"
            else _looked_up(get_benchmark_from_name(benchmark_dir, f"{name}-{number}"))
            for number, cell in enumerate(itertools.product(*parameters))
        ]
        samples = [value if isinstance(value, list) else None for value in values]
        plain = [value[0] if isinstance(value, list) else value for value in values]
        numbers = [1 if each else None for each in samples]
        content.add_result(
            benchmark,
            runner.BenchmarkResult(plain, samples, numbers, 0, "", None),
            started_at=datetime.datetime.now(datetime.UTC),
            record_samples=True,
        )
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


def _stored(folder: Path) -> dict[str, dict[tuple[Any, ...], Any]]:
    """Return the stored costs by benchmark and parameters, with samples for times, and None where
    something broke.
    """
    values: dict[str, dict[tuple[Any, ...], Any]] = {
        name: {} for name in (*BENCHMARKS.values(), ALONE)
    }
    for metric, case, estimator, depth, place in RunList.read(folder / "run.json").costs:
        if not (path := folder / "store" / place).exists():
            continue
        record = CostRecord.read(path)
        value: Any = record.samples or record.value
        if record.value is not None and record.baseline is not None:
            value = record.value + record.baseline
            values[ALONE][case,] = record.baseline
        values[BENCHMARKS[metric]][case, estimator, depth] = (
            math.nan if record.status == "skipped" else value
        )
    return values


if __name__ == "__main__":
    main()
