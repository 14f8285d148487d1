"""Accuracy is reproducible: bit for bit on one machine, and to rounding for another number of
threads.
"""

import dataclasses
import json
import os
import subprocess
import sys

import pytest

from pudle.measuring.scoring import ERRORS
from pudle.names import list_profiles

#: Largest difference between one and two threads: absolute, and relative for numbers above one.
#: Such are the errors of `analytic` where the support is wrong, up to 1e5, of which float64 holds
#: no digit at 1e-12.
BETWEEN_THREADS = 1e-12

SCRIPT = """
import json, sys
from pathlib import Path
import torch
from pudle.measuring.case import Case
from pudle.measuring.results.score import Scores
from pudle.measuring.store import Store

torch.set_num_threads(int(sys.argv[2]))
store = Store(Path(sys.argv[1]), "quick")
for case in json.loads(sys.argv[3]):
    for estimator in json.loads(sys.argv[4]):
        Scores(Case(**case), estimator).measure(store)
"""


def reduced():
    """The quick profile's cases and estimators, with a tenth of the samples, one seed and three
    depths.
    """
    quick = list_profiles()["quick"]
    for case in quick.cases:
        dataset = case.dataset.replace("n_samples=200", "n_samples=20")
        assert dataset != case.dataset
        yield dataclasses.asdict(
            dataclasses.replace(case, dataset=dataset, seeds=(0,), depths=(1, 10, 100))
        )


def measured(folder, threads):
    """Measure in a new process, and return every number of the scores by its place."""
    cases, estimators = json.dumps(list(reduced())), json.dumps(list_profiles()["quick"].estimators)
    environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    command = [sys.executable, "-c", SCRIPT, str(folder), str(threads), cases, estimators]
    subprocess.run(command, check=True, env=environment, timeout=900)
    numbers = {}
    for path in sorted(folder.glob("*/*.json")):
        record = json.loads(path.read_text())
        for row in record["scores"]:
            place = (record["case"]["name"], record["estimator"], row["depth"], row["target"])
            numbers |= {(*place, name): row[name] for name in (*ERRORS, "status")}
    return numbers


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
