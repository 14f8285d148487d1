"""From end to end on a GPU; where there is none these tests are skipped."""

import pytest
import torch
from support.problems.small_problems import filled, selected
from support.processes.commands import call

from pudle.measuring.store import Store
from pudle.workers import Pool

needs_cuda = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="this machine has no CUDA device"
)


@needs_cuda
def test_scores_and_costs_on_a_gpu(tmp_path):
    """References in float64 on the CPU, the same errors, times and memory of the device."""
    estimators = ("alternating", "analytic", "backprop", "truncated(window=2)")
    selection = selected(*estimators, depths=(1, 5), device="cuda")
    store, host = Store(tmp_path / "store", "quick", "cuda"), Store(tmp_path / "host", "quick")
    with Pool(1) as pool:
        run, other = filled(selection, store, pool), filled(selection, host, pool, costs=False)
    for each in run.scores:
        record = run.records[each]
        assert record.status == "ok", record.reason
        assert record.provenance.device == "cuda" and record.provenance.accelerator
        for row, on_host in zip(record.scores, other.records[each].scores, strict=True):
            assert row.relative_error == pytest.approx(on_host.relative_error, rel=1e-6)
    for each in run.costs:
        record = run.records[each]
        assert record.status == "ok", record.reason
        assert record.value > 0 and (each.metric == "seconds" or record.value < 1e6)


@needs_cuda
@pytest.mark.parametrize(
    "words",
    [
        (
            "run --device cuda --scores-only --only --estimator backprop --dataset"
            " sparse_gaussian(n_samples=20) --depth 5"
        ),
        "advise backprop --device cuda --dataset sparse_gaussian(n_samples=20) --error 0.1"
        " --seeds 2",
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
