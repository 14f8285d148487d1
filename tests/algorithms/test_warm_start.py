"""Warm starts carried by an algorithm, which every estimator starts from."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tolerances
import torch
from comparisons import refusal
from examples import sparse_problem

import pudle
from pudle import names

ESTIMATORS = sorted(pudle.list_estimators())

OPTIONS = {"truncated": "truncated(window=5)", "fixed_point": "fixed_point(terms=5)"}
OPTIONS |= {"spsa": "spsa(samples=3)", "pes": "pes(samples=3)"}


class TestWarmStart:
    @pytest.fixture
    def initial(self):
        return torch.tensor(np.random.default_rng(11).standard_normal((40, 18)))

    @pytest.mark.parametrize("name", ESTIMATORS)
    @pytest.mark.parametrize(
        "algorithm", [pudle.Ista(), pudle.Fista(), pudle.Fista(restart=True)], ids=names.text
    )
    def test_every_estimator_starts_from_it(self, name, algorithm, initial):
        problem = sparse_problem()
        warm = dataclasses.replace(algorithm, initial=initial)
        estimator = pudle.make_estimator(OPTIONS.get(name, name))
        for depth in (0, 3):
            try:
                codes = estimator.estimate(problem, warm, depth).codes
            except pudle.UnsupportedProblem as refused:
                pytest.skip(str(refused))
            assert (
                float((codes - algorithm.run(problem, depth, initial=initial).codes).abs().max())
                < tolerances.SAME_ARITHMETIC
            )
        assert float((codes - algorithm.run(problem, 3).codes).abs().max()) > 0.1

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
