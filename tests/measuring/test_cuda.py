"""From end to end on a GPU; where there is none these tests are skipped."""

import pytest
import torch
from commands import call
from examples import selected

from pudle.files import write_record
from pudle.measuring.costs import cells
from pudle.measuring.run import fill, plan, plan_costs, survey
from pudle.measuring.store import Store

needs_cuda = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="this machine has no CUDA device"
)


@needs_cuda
def test_scores_and_costs_on_a_gpu(tmp_path):
    """References in float64 on the CPU, the same errors, times and memory of the device."""
    estimators = ("alternating", "analytic", "backprop", "truncated(window=2)")
    selection = selected(*estimators, depths=(1, 5), device="cuda")
    write_record(tmp_path / "selection.json", selection)
    store, host = Store(tmp_path / "store", "quick", "cuda"), Store(tmp_path / "host", "quick")
    records = fill(plan(survey(selection, store)), workers=1)["score"]
    assert {record.status for record in records} == {"ok"}
    assert all(
        record.provenance["device"] == "cuda" and record.provenance["accelerator"]
        for record in records
    )
    on_host = {
        record.estimator: record
        for record in fill(plan(survey(selection, host)), workers=1)["score"]
    }
    for record in records:
        for row, other in zip(record.scores, on_host[record.estimator].scores, strict=True):
            assert row["relative_error"] == pytest.approx(other["relative_error"], rel=1e-6)
    fill(plan_costs(survey(selection, store)), workers=1)
    for cell in cells(selection):
        record = store.read("cost", *cell)
        assert record.status == "ok", record.reason
        assert record.value > 0 and (cell[0] == "seconds" or record.value < 1e6)


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
def test_commands_on_a_gpu(words, tmp_path):
    done = call(*words.split(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
@pytest.mark.parametrize("command", ["run", "learn", "denoise"])
def test_without_a_gpu_it_is_refused_and_writes_nothing(command, tmp_path):
    assert call(command, "--device", "cuda", cwd=tmp_path).returncode == 2
    assert {path.name for path in tmp_path.iterdir()} <= {".asv"}
