"""From end to end on a GPU; where there is none these tests are skipped, but for the units of its
clock.
"""

from __future__ import annotations

import importlib
import json

import pytest
import torch
from click.testing import CliRunner
from examples import TINY

import pudle
from pudle.cli import pudle as program
from pudle.measuring.costs import cells
from pudle.measuring.runner import fill, plan, plan_costs
from pudle.measuring.selection import Selection
from pudle.measuring.store import Store

needs_cuda = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="this machine has no CUDA device"
)


def test_the_clock_of_the_gpu_counts_in_seconds(monkeypatch):
    """Events tell milliseconds since another event; the times here are made up."""

    class Event:
        now = iter([5.0, 255.0, 1755.0])

        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            self.at = next(self.now)

        def synchronize(self):
            assert self.at is not None

        def elapsed_time(self, other):
            return other.at - self.at

    monkeypatch.setattr(torch.cuda, "Event", Event)
    clock = importlib.import_module("pudle.bench.timing")._DeviceClock()
    assert [clock(), clock(), clock()] == [0.0, 0.25, 1.75]


@needs_cuda
def test_scores_and_costs_on_a_gpu(tmp_path):
    """References in float64 on the CPU, the same errors as there, times and memory of the device."""
    estimators = ("alternating", "analytic", "backprop", "truncated(window=2)")
    selection = Selection("quick", (TINY,), estimators, (1,), (1, 5), device="cuda")
    selection.write(tmp_path / "selection.json")
    store, host = Store(tmp_path / "store", "quick", "cuda"), Store(tmp_path / "host", "quick")
    records = fill(plan(selection, store), workers=1)["score"]
    assert {record.status for record in records} == {"ok"}
    assert all(
        record.provenance["device"] == "cuda" and record.provenance["accelerator"]
        for record in records
    )
    on_host = {
        record.estimator: record for record in fill(plan(selection, host), workers=1)["score"]
    }
    for record in records:
        for row, other in zip(record.scores, on_host[record.estimator].scores, strict=True):
            assert row["relative_error"] == pytest.approx(other["relative_error"], rel=1e-6)
    fill(plan_costs(selection, store), workers=1)
    for cell in cells(selection):
        record = store.read_cost(cell)
        assert record.status == "ok", record.reason
        assert record.value > 0 and (cell.metric == "seconds" or record.value < 1e6)


@needs_cuda
@pytest.mark.parametrize(
    "words",
    [
        (
            "run --device cuda --scores-only --only --estimator backprop --dataset"
            " sparse_gaussian(n_samples=20) --depth 5"
        ),
        "learn --device cuda --dataset sparse_gaussian(n_samples=20) --epochs 2 --out learned",
        "denoise --device cuda --experiment denoising-small-backprop --budget 5 --out denoised",
    ],
)
def test_commands_on_a_gpu(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(program, words.split())
    assert result.exit_code == 0, result.output


@needs_cuda
def test_batches_on_a_gpu(tmp_path):
    problem = TINY.make_problem(0, "cuda")
    whole = pudle.make_estimator("backprop").estimate(problem, pudle.Ista(), 5)
    mean = pudle.mean_estimate(
        pudle.make_estimator("backprop"), pudle.split(problem, 6), pudle.Ista(), 5
    )
    assert mean.gradient.is_cuda and torch.allclose(mean.gradient, whole.gradient, rtol=1e-10)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
@pytest.mark.parametrize("command", ["run", "learn", "denoise"])
def test_without_a_gpu_it_is_refused_in_one_line(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["pudle", command, "--device", "cuda"])
    from pudle import cli

    assert cli.run() == 2
    assert json.dumps(sorted(path.name for path in tmp_path.iterdir())) in ("[]", '[".asv"]')
