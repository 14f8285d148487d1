"""Limits of algorithms, the references for thresholding rules that lead to no minimizer."""

from __future__ import annotations

import dataclasses

import numpy as np
import oracles
import pytest
import tolerances
import torch
from comparisons import refusal, relative
from examples import PENALTY, arrays_of, directions, ridge_problem, sparse_problem

import pudle
from pudle import names
from pudle.measuring.case import Case
from pudle.measuring.measurement import measure
from pudle.measuring.store import Store
from pudle.references import converging


def least_squares_loss(x: np.ndarray, d: np.ndarray, signs: np.ndarray, loss: str) -> complex:
    """Loss at the least-squares codes on given supports; analytic in the dictionary."""
    codes = np.zeros(signs.shape, dtype=d.dtype)
    for i, sign in enumerate(signs):
        atoms = d[:, sign != 0]
        codes[i, sign != 0] = np.linalg.solve(atoms.T @ atoms, atoms.T @ x[i])
    return oracles.outer_loss(x, d, codes, PENALTY, loss)


class TestLimit:
    @pytest.mark.parametrize(
        "algorithm", [pudle.Ista(), pudle.Fista(), pudle.Fista(restart=True)], ids=names.text
    )
    def test_of_soft_thresholding_is_the_minimizer(self, algorithm, loss):
        problem = sparse_problem(loss)
        reference = pudle.reference(problem)
        limit = pudle.reference(problem, "limit", algorithm)
        assert (limit.status, limit.target) == ("limit", "limit")
        assert relative(limit.gradient, reference.gradient) < limit.bound < tolerances.USEFUL_BOUND
        assert float((limit.codes - reference.codes).abs().max()) < 1e-12

    def test_of_ridge_is_its_closed_form(self):
        problem = ridge_problem()
        limit, reference = pudle.reference(problem, "limit", pudle.Ista()), pudle.reference(problem)
        assert relative(limit.gradient, reference.gradient) < limit.bound < tolerances.USEFUL_BOUND

    @pytest.mark.parametrize(
        ("shape", "spec"),
        [
            ({"m": 12, "p": 18}, "ista(thresholding='hard(threshold=0.2)')"),
            ({"m": 20, "p": 12}, "ista(thresholding='hard(threshold=0.1)')"),
            ({"m": 20, "p": 12}, "fista(thresholding='hard(threshold=0.1)')"),
            ({"m": 20, "p": 12}, "ista(thresholding='decaying(decay=0.99)')"),
            ({"m": 20, "p": 12}, "fista(thresholding='decaying(decay=0.9)', restart=True)"),
        ],
    )
    def test_of_the_others_is_least_squares_on_the_support(self, shape, spec, loss):
        problem = sparse_problem(loss, **shape)
        x, d = arrays_of(problem)
        limit = pudle.reference(problem, "limit", pudle.make_algorithm(spec))
        assert limit.status == "limit", limit.reason
        signs = np.sign(limit.codes.numpy())
        truth = np.zeros_like(d)
        for index in np.ndindex(d.shape):
            direction = np.zeros_like(d)
            direction[index] = 1
            truth[index] = oracles.complex_step(
                lambda at: least_squares_loss(x, at, signs, loss), d, direction
            )
        assert relative(limit.gradient, truth) < max(limit.bound, 1e-12) < tolerances.USEFUL_BOUND

    @pytest.mark.parametrize(
        "spec",
        ["ista(thresholding='hard(threshold=0.1)')", "ista(thresholding='decaying(decay=0.95)')"],
    )
    def test_central_differences_of_the_converged_map(self, spec, loss):
        problem = sparse_problem(loss, m=20, p=12, n=20)
        limit = pudle.reference(problem, "limit", pudle.make_algorithm(spec))
        algorithm = dataclasses.replace(
            pudle.make_algorithm(spec), step=1 / problem.lipschitz_constant
        )

        def value(at):
            moved = problem.with_theta(torch.tensor(at))
            return float(moved.outer_loss(algorithm.run(moved, limit.certificate.iterations).codes))

        gradient, d = limit.gradient.numpy(), problem.dictionary.numpy()
        for direction in directions(d.shape, 2):
            difference = oracles.central_difference(value, d, direction)
            assert abs(
                (gradient * direction).sum() - difference
            ) < tolerances.EXACT_CENTRAL_DIFFERENCES * np.linalg.norm(gradient)

    @pytest.mark.parametrize(
        "spec",
        ["ista(thresholding='hard(threshold=0.1)')", "ista(thresholding='decaying(decay=0.95)')"],
    )
    def test_unrolled_gradient_tends_to_it_and_is_scored(self, spec):
        problem, algorithm = sparse_problem(m=20, p=12), pudle.make_algorithm(spec)
        limit = pudle.reference(problem, "limit", algorithm)
        backprop = pudle.make_estimator("backprop")
        depths = (20, limit.certificate.iterations)
        shallow, deep = (
            pudle.score(backprop.estimate(problem, algorithm, depth), limit) for depth in depths
        )
        assert shallow.status == deep.status == "ok"
        assert shallow.relative_error > 1e-2
        assert limit.bound <= deep.relative_error < 1e-8

    def test_warm_start_counts(self):
        problem = sparse_problem(m=20, p=12)
        algorithm = pudle.make_algorithm("ista(thresholding='hard(threshold=0.1)')")
        cold = pudle.reference(problem, "limit", algorithm)
        warm = pudle.reference(problem, "limit", dataclasses.replace(algorithm, initial=cold.codes))
        assert warm.certificate.iterations < 20 < cold.certificate.iterations
        assert relative(warm.gradient, cold.gradient) < 1e-10

    def test_faded_penalty_with_too_many_atoms_has_none(self):
        algorithm = pudle.make_algorithm("ista(thresholding='decaying(decay=0.9)')")
        limit = pudle.reference(sparse_problem(), "limit", algorithm)
        assert limit.status == "uncertified"
        assert "40 have a singular active system" in limit.reason
        estimate = pudle.make_estimator("backprop").estimate(sparse_problem(), algorithm, 5)
        assert pudle.score(estimate, limit).status == "uncertified"

    def test_what_still_moves_is_not_scored(self, monkeypatch):
        monkeypatch.setattr(converging, "MAX_LAYERS", 30)
        limit = pudle.reference(sparse_problem(), "limit", pudle.Ista())
        assert limit.status == "uncertified"
        assert "40 still moved after 30 layers" in limit.reason

    def test_zero_gradient_is_degenerate(self):
        limit = pudle.reference(sparse_problem(penalty=100.0), "limit", pudle.Ista())
        assert limit.status == "degenerate"

    def test_gradient_that_fades_with_the_penalty_is_degenerate(self):
        # The limit does not depend on the penalty: remnants of the penalty must not pass for a
        # gradient.
        random = np.random.default_rng(3)
        arrays = {
            "observations": random.standard_normal((5, 20)),
            "design": random.standard_normal((20, 6)),
            "held_out_observations": random.standard_normal((5, 15)),
            "held_out_design": random.standard_normal((15, 6)),
            "log_penalty": np.array(-1.0),
        }
        problem = pudle.PenaltySelection(
            **{name: torch.tensor(array) for name, array in arrays.items()}
        )
        for rule in ("decaying(decay=0.9)", "hard(threshold=0.01)"):
            assert (
                pudle.reference(problem, "limit", pudle.Ista(thresholding=rule)).status
                == "degenerate"
            )

    def test_it_needs_the_algorithm(self):
        assert "pass it" in refusal(lambda: pudle.reference(sparse_problem(), "limit"))


HARD = "ista(step=0.2, thresholding='hard(threshold=0.15)')"


def hard_case(**changes) -> Case:
    options = {
        "dataset": "sparse_gaussian(n_samples=20)",
        "algorithm": HARD,
        "loss": "lasso",
        "seeds": (0,),
        "depths": (5, 300),
    }
    return Case(name="hard", **options | {"targets": ("gstar", "gtilde", "limit")} | changes)


class TestCases:
    @pytest.mark.parametrize("rule", ["hard", "decaying(decay=0.99)"])
    @pytest.mark.parametrize("target", ["exact", "ghat"])
    def test_targets_of_the_minimizer_are_refused(self, rule, target):
        case = hard_case(algorithm=f"ista(thresholding={rule!r})", targets=("gtilde", target))
        text = refusal(lambda: case.check_target(target), pudle.UnsupportedProblem)
        assert text.startswith(rule.partition("(")[0])
        assert f"target={target!r} rests on: use the target gstar, gtilde or limit" in text

    def test_measured_against_every_other_target(self, tmp_path):
        store = Store(tmp_path, "test")
        record = measure(hard_case(), "backprop", store)
        assert record["status"] == "ok", record["reason"]
        deep = {
            row["target"]: row["relative_error"] for row in record["scores"] if row["depth"] == 300
        }
        assert deep["limit"] < 1e-3 < deep["gtilde"]
        labels = {
            description["target"]: description["status"] for description in record["references"]
        }
        assert labels == {"gstar": "certified", "gtilde": "certified", "limit": "limit"}
        again = store.read_reference(hard_case(), 0, "limit")
        assert again is not None
        assert again.status == "limit"

    def test_only_a_limit_is_kept_per_algorithm(self, tmp_path):
        store = Store(tmp_path, "test")
        one, other = (
            hard_case(),
            hard_case(algorithm="ista(step=0.2, thresholding='hard(threshold=0.1)')"),
        )
        assert store.reference_path(one, 0, "gtilde") == store.reference_path(other, 0, "gtilde")
        assert store.reference_path(one, 0, "limit") != store.reference_path(other, 0, "limit")
