"""Warm starts carried by an algorithm, which every estimator starts from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from comparisons import refusal
from examples import sparse_problem

import pudle
from pudle import names


class TestWarmStart:
    @pytest.fixture
    def initial(self):
        return torch.tensor(np.random.default_rng(11).standard_normal((40, 18)))

    def test_spec_and_comparison_leave_it_out(self, initial):
        warm = pudle.Ista(step=0.2, initial=initial)
        assert names.text(warm) == "ista(step=0.2)"
        assert warm == pudle.Ista(step=0.2)
        assert hash(warm) == hash(pudle.Ista(step=0.2))

    def test_refusals(self, initial):
        problem = sparse_problem()
        assert "initial has shape (3, 18)" in refusal(
            lambda: pudle.Ista(initial=initial[:3]).run(problem, 1)
        )
        assert "differ in dtype" in refusal(
            lambda: pudle.Ista(initial=initial.float()).run(problem, 1)
        )
