"""Accuracy is reproducible: bit for bit on one machine, and to rounding for another number of
threads.
"""

import dataclasses
import os
import subprocess
import sys

import pytest

from pudle.files import write_record
from pudle.measuring.run import Run
from pudle.measuring.scoring import ERRORS
from pudle.measuring.store import Store
from pudle.names import list_profiles

#: Largest difference between one and two threads: absolute, and relative for numbers above one.
#: Such are the errors of `analytic` where the support is wrong, up to 1e5, of which float64 holds
#: no digit at 1e-12.
BETWEEN_THREADS = 1e-12

SCRIPT = """
import sys
from pathlib import Path
import torch
from pudle.files import read_record
from pudle.measuring.run import Run
from pudle.measuring.selection import Selection
from pudle.measuring.store import Store
from pudle.workers import InProcess

folder = Path(sys.argv[1])
torch.set_num_threads(int(sys.argv[2]))
selection = read_record(folder / "selection.json", Selection)
Run(selection, Store(folder, "quick")).fill(InProcess(), costs=False)
"""


def reduced():
    """Return the quick profile with a tenth of the samples, one seed and three depths."""
    quick = list_profiles()["quick"]
    cases = []
    for case in quick.cases:
        dataset = case.dataset.replace("n_samples=200", "n_samples=20")
        assert dataset != case.dataset
        small = {"dataset": dataset, "seeds": (0,), "depths": (1, 10, 100)}
        cases.append(dataclasses.replace(case, **small))
    return dataclasses.replace(quick, cases=tuple(cases), experiments=())


def measured(folder, threads):
    """Measure in a new process, and return every number of the scores by its place."""
    selection = reduced()
    write_record(folder / "selection.json", selection)
    environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    command = [sys.executable, "-c", SCRIPT, str(folder), str(threads)]
    subprocess.run(command, check=True, env=environment, timeout=900)
    run = Run(selection, Store(folder, "quick"))
    return {
        (each.case.name, each.estimator, row.depth, name): getattr(row, name)
        for each in run.scores
        for row in run.records[each].scores
        for name in (*ERRORS, "status")
    }


@pytest.mark.nightly
def test_accuracy_is_the_same_in_every_run_and_for_any_number_of_threads(tmp_path):
    first, second, parallel = (
        measured(tmp_path / str(number), threads) for number, threads in enumerate((1, 1, 2))
    )
    assert len(first) > 400 and first == second
    assert first.keys() == parallel.keys()
    for place, value in first.items():
        other = parallel[place]
        assert value == other or abs(value - other) <= BETWEEN_THREADS * max(1, abs(value)), place
