"""Backpropagation, forward mode and checkpointing compute one derivative; their costs differ."""

import warnings

import pytest
from comparisons import relative
from estimator_specs import DEPTH, estimate
from examples import sparse_problem
from tolerances import SAME_ARITHMETIC
from torch.autograd import forward_ad

import pudle


def test_unrolled_derivatives_agree(problem, algorithm):
    expected = estimate("backprop", problem, algorithm).gradient
    specs = ["truncated(window=1000)", "forward", "checkpointed"]
    for spec in [*specs, *(f"checkpointed(segments={count})" for count in (1, 7, DEPTH, 1000))]:
        assert relative(estimate(spec, problem, algorithm).gradient, expected) < SAME_ARITHMETIC
    assert estimate("checkpointed", problem, algorithm, 64).diagnostics["stored_states"] == 16
    shorter = estimate(f"truncated(window={DEPTH - 1})", problem, algorithm).gradient
    assert relative(shorter, expected) > SAME_ARITHMETIC


def test_forward_refuses_a_jacobian_beyond_its_budget():
    with pytest.raises(pudle.UnsupportedProblem, match="155520 entries.*=1000.*use backprop"):
        estimate("forward(max_jacobian_entries=1000)", sparse_problem(), pudle.Ista())


def test_forward_mode_warns_of_nothing_where_warnings_are_errors(monkeypatch):
    """When torch loads its rules for forward mode, it warns of what these use."""
    make_dual = forward_ad.make_dual

    def load(*arguments, **options):
        warnings.warn("`torch.jit.script` is deprecated.", DeprecationWarning, stacklevel=2)
        return make_dual(*arguments, **options)

    monkeypatch.setattr(forward_ad, "make_dual", load)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimate("forward", sparse_problem(), pudle.Ista(), 2)
