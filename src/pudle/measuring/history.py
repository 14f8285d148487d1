"""Script that writes asv's results of one commit from the store, for asv to draw over commits.

Usage: ``python -m pudle.measuring.history CONFIGURATION COMMIT``, where CONFIGURATION is asv's,
beside the store. The benchmarks of the accuracy look their values up in the store, here as under
`asv run`; times and memory are the stored ones.
"""

from __future__ import annotations

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
from asv_runner.discovery import disc_benchmarks, list_benchmarks

from ..files import read_json
from . import costs
from .provenance import git

ALONE = "memory.ProblemAlone.peakmem_problem"


def main() -> None:
    configuration = config.Config.load(sys.argv[1])
    commit, folder = sys.argv[2], Path(sys.argv[1]).parent
    # asv itself would work in that folder; here it is the one that paths in the selection are seen
    # from.
    configuration.results_dir = str(folder / configuration.results_dir)
    os.environ[costs.SELECTION_VARIABLE] = str(folder / "selection.json")
    text = io.StringIO()
    list_benchmarks(str(costs.benchmark_folder()), text)
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
    for benchmark in disc_benchmarks(str(costs.benchmark_folder())):
        cells = list(itertools.product(*benchmark._params))
        found = stored.get(benchmark.name) or {
            cell: _looked_up(benchmark, number) for number, cell in enumerate(cells)
        }
        values = [found.get(cell, math.nan) for cell in cells]
        samples = [value if isinstance(value, list) else None for value in values]
        plain = [value[0] if isinstance(value, list) else value for value in values]
        numbers = [1 if each else None for each in samples]
        content.add_result(
            known[benchmark.name],
            runner.BenchmarkResult(plain, samples, numbers, 0, "", None),
            started_at=datetime.datetime.now(datetime.UTC),
            record_samples=True,
        )
    content.save(configuration.results_dir)


def _looked_up(benchmark: Any, number: int) -> float | None:
    """Return what a benchmark of the accuracy gives for one cell: NaN where it skips the cell, None
    where it fails.
    """
    if benchmark.type != "track":
        return math.nan
    benchmark.set_param_idx(number)
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
    found: dict[str, dict[tuple[Any, ...], Any]] = {
        name: {} for name in (*costs.BENCHMARKS.values(), ALONE)
    }
    for metric, case, estimator, depth, place in read_json(folder / "run.json")["costs"]:
        if not (path := folder / "store" / place).exists():
            continue
        record = read_json(path)
        value = record.get("samples") or record["value"]
        if "baseline" in record:
            value += record["baseline"]
            found[ALONE][case,] = record["baseline"]
        found[costs.BENCHMARKS[metric]][case, estimator, depth] = (
            math.nan if record["status"] == "skipped" else value
        )
    return found


if __name__ == "__main__":
    main()
