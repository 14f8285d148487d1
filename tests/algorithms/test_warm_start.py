"""Warm starts carried by an algorithm, which every estimator starts from."""

from __future__ import annotations

import dataclasses

import numpy as np
import oracles
import pytest
import tolerances
import torch
from comparisons import refusal, relative
from examples import PENALTY, arrays_of, directions, sparse_problem

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

    def test_gradient_holds_it_constant(self, loss, initial):
        problem = sparse_problem(loss)
        x, d = arrays_of(problem)
        warm = pudle.Ista(initial=initial)
        step, start = warm.step_size(problem), (initial.numpy(), initial.numpy(), 1.0)

        def value(at):
            codes, _, _ = oracles.unroll(x, at, PENALTY, step, 8, state=start)
            return oracles.outer_loss(x, at, codes, PENALTY, loss)

        for name in ("backprop", "forward", "checkpointed", "truncated(window=8)"):
            gradient = pudle.make_estimator(name).estimate(problem, warm, 8).gradient.numpy()
            for direction in directions(d.shape):
                truth = oracles.complex_step(value, d, direction)
                assert abs((gradient * direction).sum() - truth) < 1e-10 * np.linalg.norm(gradient)

    def test_minimizer_stays_where_it_is(self):
        problem = sparse_problem()
        truth = pudle.reference(problem)
        warm = pudle.Ista(initial=truth.codes)
        assert float((warm.run(problem, 50).codes - truth.codes).abs().max()) < 1e-13
        estimate = pudle.make_estimator("alternating").estimate(problem, warm, 1)
        assert relative(estimate.gradient, truth.gradient) < 1e-12

    def test_argument_of_run_goes_first(self, initial):
        problem = sparse_problem()
        codes = pudle.Ista(initial=initial).run(problem, 0, initial=2 * initial).codes
        assert torch.equal(codes, 2 * initial)

    def test_graph_of_the_codes_given_is_cut(self, initial):
        live = initial.requires_grad_()
        assert not pudle.Ista(initial=live).run(sparse_problem(), 2).codes.requires_grad

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
