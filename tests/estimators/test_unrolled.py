"""Backpropagation, forward mode and checkpointing compute one derivative; their costs differ."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from estimator_specs import DEPTH, VISIBLE, estimate, relative
from examples import sparse_problem
from tolerances import SAME_ARITHMETIC

import pudle


@pytest.mark.parametrize(
    "spec",
    [
        f"truncated(window={DEPTH})",
        "truncated(window=1000)",
        "forward",
        "checkpointed",
        "checkpointed(segments=7)",
    ],
)
def test_unrolled_derivatives_agree(spec, problem, algorithm):
    expected = estimate("backprop", problem, algorithm).gradient
    assert relative(estimate(spec, problem, algorithm).gradient, expected) < SAME_ARITHMETIC
    assert (
        relative(estimate(f"truncated(window={DEPTH - 1})", problem, algorithm).gradient, expected)
        > SAME_ARITHMETIC
    )


@pytest.mark.parametrize("segments", [None, 1, 4, DEPTH, 1000])
def test_checkpointed_is_backprop(segments, problem, algorithm):
    actual = estimate(f"checkpointed(segments={segments})", problem, algorithm)
    assert (
        relative(actual.gradient, estimate("backprop", problem, algorithm).gradient)
        < SAME_ARITHMETIC
    )


def test_checkpointed_carries_momentum_across_segments(problem):
    """Momentum and extrapolated point cross the segment bounds: dropping either would turn FISTA
    into ISTA there.
    """
    spec = "checkpointed(segments=5)"
    accelerated, plain = (
        estimate(spec, problem, algorithm) for algorithm in (pudle.Fista(), pudle.Ista())
    )
    assert relative(accelerated.gradient, plain.gradient) > VISIBLE


def test_checkpointed_stores_less(problem, algorithm, monkeypatch):
    """The largest number of tensors stored for the backward pass at one time is far below that of
    backprop.
    """
    monkeypatch.setenv("PUDLE_KERNELS", "torch")

    class Stored:
        alive = peak = 0

        def __init__(self, tensor):
            self.tensor = tensor
            Stored.alive += 1
            Stored.peak = max(Stored.peak, Stored.alive)

        def __del__(self):
            Stored.alive -= 1

    peaks = []
    for spec in ("backprop", "checkpointed"):
        Stored.alive = Stored.peak = 0
        with torch.autograd.graph.saved_tensors_hooks(Stored, lambda stored: stored.tensor):
            estimate(spec, problem, algorithm, 64)
        peaks.append(Stored.peak)
    assert peaks[1] < peaks[0] / 4
    assert estimate("checkpointed", problem, algorithm, 64).diagnostics["stored_states"] == 16


def test_forward_reads_every_depth_off_one_pass(problem, algorithm):
    depths = [5, 0, 17]
    for depth, actual in zip(
        depths, pudle.make_estimator("forward").sweep(problem, algorithm, depths), strict=True
    ):
        expected = estimate("backprop", problem, algorithm, depth).gradient
        assert (actual.gradient - expected).norm() <= SAME_ARITHMETIC * expected.norm()


def test_forward_refuses_a_jacobian_beyond_its_budget():
    with pytest.raises(pudle.UnsupportedProblem) as refusal:
        estimate("forward(max_jacobian_entries=1000)", sparse_problem(), pudle.Ista())
    assert (
        str(refusal.value) == "forward carries a Jacobian of 216 x 720 = 155520 entries here, above"
        " max_jacobian_entries=1000: raise that, use fewer samples, or use backprop or"
        " checkpointed, which compute the same"
    )


def test_forward_mode_warns_of_nothing_where_warnings_are_errors():
    """When torch loads its rules for forward mode, some versions warn of what these use: in a
    process of its own.
    """
    program = (
        "import pudle; problem = pudle.make_dataset('sparse_gaussian(n_samples=2,"
        " n_features=9)').problem(); pudle.make_estimator('forward').estimate(problem,"
        " pudle.Ista(), 2)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error::FutureWarning", "-c", program],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
