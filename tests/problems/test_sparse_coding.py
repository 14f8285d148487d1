"""Sparse coding: its values, and its errors, each one line that names the argument and the remedy."""

from __future__ import annotations

import dataclasses

import numpy as np
import oracles
import pytest
import tolerances
import torch
from examples import PENALTY, arrays_of, sparse_problem

import pudle
from pudle.validation import check_alike

NAN, INFINITY = float("nan"), float("inf")


def good(**changes):
    arguments = {
        "observations": torch.ones(4, 3, dtype=torch.float64),
        "dictionary": torch.eye(3, 5, dtype=torch.float64),
        "penalty": 0.1,
    }
    return arguments | changes


def with_entry(tensor: torch.Tensor, *entries: float) -> torch.Tensor:
    tensor = tensor.clone()
    tensor.view(-1)[: len(entries)] = torch.tensor(entries, dtype=tensor.dtype)
    return tensor


X, D = good()["observations"], good()["dictionary"]

REFUSED = {
    "NaN observations": (
        {"observations": with_entry(X, NAN)},
        "observations has 1 entry that is NaN or infinite: remove or replace what is not finite",
    ),
    "infinite observations": (
        {"observations": with_entry(X, INFINITY, -INFINITY)},
        "observations has 2 entries that are NaN or infinite: remove or replace what is not finite",
    ),
    "NaN dictionary": (
        {"dictionary": with_entry(D, NAN)},
        "dictionary has 1 entry that is NaN or infinite: remove or replace what is not finite",
    ),
    "integer observations": (
        {"observations": torch.ones(4, 3, dtype=torch.int64)},
        (
            "observations has dtype int64: convert it to float32 or float64, e.g."
            " observations.double()"
        ),
    ),
    "integer dictionary": (
        {"dictionary": torch.ones(3, 5, dtype=torch.int32)},
        "dictionary has dtype int32: convert it to float32 or float64, e.g. dictionary.double()",
    ),
    "half precision": (
        {"observations": X.half()},
        (
            "observations has dtype float16: convert it to float32 or float64, e.g."
            " observations.double()"
        ),
    ),
    "sparse observations": (
        {"observations": X.to_sparse()},
        (
            "observations is a sparse, nested or meta tensor: give a dense one, e.g."
            " observations.to_dense()"
        ),
    ),
    "meta dictionary": (
        {"dictionary": D.to("meta")},
        (
            "dictionary is a sparse, nested or meta tensor: give a dense one, e.g."
            " dictionary.to_dense()"
        ),
    ),
    "zero dictionary": (
        {"dictionary": torch.zeros_like(D)},
        "dictionary has only zeros: give at least one entry another value",
    ),
    "complex dictionary": (
        {"dictionary": D.to(torch.complex128)},
        (
            "dictionary has dtype complex128: convert it to float32 or float64, e.g."
            " dictionary.double()"
        ),
    ),
    "boolean observations": (
        {"observations": X > 0},
        "observations has dtype bool: convert it to float32 or float64",
    ),
    "one sample as a vector": (
        {"observations": X[0]},
        "observations has shape (3,): give a tensor of shape (n, m)",
    ),
    "dictionary with a batch axis": (
        {"dictionary": D[None]},
        "dictionary has shape (1, 3, 5): give a tensor of shape (m, p)",
    ),
    "transposed dictionary": (
        {"dictionary": D.T},
        (
            "dictionary has shape (5, 3) and observations (4, 3): dictionary needs as many rows as"
            " observations has columns (3); atoms are columns, samples are rows"
        ),
    ),
    "no samples": ({"observations": X[:0]}, "observations"),
    "no atoms": ({"dictionary": D[:, :0]}, "dictionary"),
    "no tensor": (
        {"observations": "photographs"},
        "observations is a str: give a tensor of shape (n, m)",
    ),
    "ragged lists": (
        {"observations": [[1.0], [1.0, 2.0]]},
        "observations is a list: give a tensor of shape (n, m)",
    ),
    "none": ({"dictionary": None}, "dictionary is a NoneType: give a tensor of shape (m, p)"),
    "two dtypes": (
        {"dictionary": D.float()},
        (
            "dictionary and observations differ in dtype (torch.float32 and torch.float64): convert"
            " one, e.g. dictionary.to(observations)"
        ),
    ),
    "zero penalty": ({"penalty": 0.0}, "penalty=0.0 is out of range: give a number > 0"),
    "negative penalty": ({"penalty": -0.1}, "penalty=-0.1 is out of range: give a number > 0"),
    "NaN penalty": ({"penalty": NAN}, "penalty=nan is not a finite number: give a number > 0"),
    "infinite penalty": (
        {"penalty": INFINITY},
        "penalty=inf is not a finite number: give a number > 0",
    ),
    "penalty as text": (
        {"penalty": "0.1"},
        "penalty='0.1' is not a finite number: give a number > 0",
    ),
    "penalty as truth value": (
        {"penalty": True},
        "penalty=True is not a finite number: give a number > 0",
    ),
    "unknown loss": ({"loss": "lsso"}, "loss='lsso' is unknown: choose from lasso, reconstruction"),
    "generating dictionary of another shape": (
        {"generating_dictionary": D[:, :4]},
        "generating_dictionary has shape (3, 4): it must be (3, 5) to fit the others",
    ),
    "generating codes of another shape": (
        {"generating_codes": torch.ones(3, 5, dtype=torch.float64)},
        "generating_codes has shape (3, 5): it must be (4, 5) to fit the others",
    ),
    "NaN generating codes": (
        {"generating_codes": torch.full((4, 5), NAN, dtype=torch.float64)},
        (
            "generating_codes has 20 entries that are NaN or infinite: remove or replace what is"
            " not finite"
        ),
    ),
    "generating dictionary in another precision": (
        {"generating_dictionary": D.float()},
        "generating_dictionary and observations differ in dtype",
    ),
}


class TestSparseCoding:
    @pytest.mark.parametrize("changes, text", REFUSED.values(), ids=REFUSED)
    def test_bad_input_is_refused(self, changes, text):
        with pytest.raises(pudle.InvalidArgument) as failure:
            pudle.SparseCoding(**good(**changes))
        assert str(failure.value).startswith(text)
        assert len(str(failure.value).splitlines()) == 1

    def test_two_devices_are_refused(self):
        with pytest.raises(pudle.InvalidArgument) as failure:
            check_alike("dictionary", D.to("meta"), "observations", X)
        assert (
            str(failure.value)
            == "dictionary and observations differ in device (meta and cpu): convert one, e.g."
            " dictionary.to(observations)"
        )

    @pytest.mark.parametrize("loss", ["lasso", "reconstruction"])
    def test_losses(self, loss):
        problem = sparse_problem(loss)
        x, d = arrays_of(problem)
        codes = problem.generating_codes
        truth = oracles.outer_loss(x, d, codes.numpy(), PENALTY, loss).real
        assert float(problem.outer_loss(codes)) == pytest.approx(
            truth, rel=tolerances.SAME_ARITHMETIC
        )

    def test_losses_are_means_over_samples(self, problem):
        twice = dataclasses.replace(
            problem,
            observations=problem.observations.repeat(2, 1),
            generating_codes=problem.generating_codes.repeat(2, 1),
        )
        mine, doubled = (float(one.outer_loss(one.generating_codes)) for one in (problem, twice))
        assert doubled == pytest.approx(mine, rel=tolerances.SAME_ARITHMETIC)

    def test_smooth_gradient_is_per_sample(self, problem):
        x, d = arrays_of(problem)
        z = problem.generating_codes.numpy()
        truth = (z @ d.T - x) @ d
        assert (
            np.abs(problem.smooth_gradient(problem.generating_codes).numpy() - truth).max() < 1e-13
        )

    @pytest.mark.parametrize("shape", [{"m": 12, "p": 18}, {"m": 20, "p": 7}], ids=str)
    def test_lipschitz_constant_is_the_largest_eigenvalue(self, shape):
        problem = sparse_problem(**shape)
        _, d = arrays_of(problem)
        largest = np.linalg.norm(d, 2) ** 2
        assert problem.lipschitz_constant == pytest.approx(largest, rel=1e-12)
        assert problem.lipschitz_constant < 0.9 * np.linalg.norm(d) ** 2, (
            "the Frobenius norm is another number"
        )

    def test_prox_soft_thresholds(self, problem):
        random = np.random.default_rng(3)
        values = random.standard_normal(problem.code_shape)
        out = problem.prox(torch.tensor(values), 0.5, pudle.Ista().thresholding, 0).numpy()
        truth = np.sign(values) * np.maximum(np.abs(values) - 0.5 * PENALTY, 0)
        assert np.abs(out - truth).max() < 1e-15
        # Zeros must be exact, because they define the support.
        assert np.array_equal(out == 0, np.abs(values) <= 0.5 * PENALTY)

    def test_nonnegative_prox(self):
        problem = sparse_problem(nonnegative=True)
        values = np.random.default_rng(3).standard_normal(problem.code_shape)
        out = problem.prox(torch.tensor(values), 0.5, pudle.Ista().thresholding, 0).numpy()
        assert np.abs(out - np.maximum(values - 0.5 * PENALTY, 0)).max() < 1e-15

    def test_stationarity_vanishes_at_the_minimizer(self, problem):
        codes = pudle.reference(problem).codes
        active = problem.active(codes)
        assert active.any() and not active.all()
        assert problem.stationarity(codes)[active].abs().max() < tolerances.KKT

    def test_active_systems(self, problem):
        """Compare with one dense solve per sample."""
        _, d = arrays_of(problem)
        codes = pudle.reference(problem).codes
        right = torch.tensor(np.random.default_rng(4).standard_normal(problem.code_shape))
        solution, diagnostics = problem.solve_active(codes, right)
        conditions = []
        for z, r, v in zip(codes.numpy(), right.numpy(), solution.numpy(), strict=True):
            support = np.flatnonzero(z)
            gram = d[:, support].T @ d[:, support]
            truth = np.zeros_like(z)
            truth[support] = np.linalg.solve(gram, r[support])
            assert np.abs(v - truth).max() < tolerances.CLOSED_FORM * np.abs(truth).max()
            conditions.append(np.linalg.cond(gram))
        assert diagnostics["condition_number"] == pytest.approx(max(conditions), rel=1e-8)
        assert diagnostics["singular"] == 0

    def test_arrays_are_accepted(self):
        problem = pudle.SparseCoding(
            observations=np.ones((4, 3)), dictionary=np.eye(3, 5), penalty=1
        )
        assert problem.observations.dtype == torch.float64 and problem.penalty == 1.0

    def test_is_immutable(self, problem):
        with pytest.raises(dataclasses.FrozenInstanceError):
            problem.penalty = 1.0

    def test_with_theta_is_a_copy(self, problem):
        other = problem.with_theta(problem.dictionary * 2)
        assert torch.equal(other.theta, problem.theta * 2)
        assert other.theta is other.dictionary and problem.theta is problem.dictionary
        assert other.observations is problem.observations and other.loss == problem.loss

    def test_with_theta_keeps_the_step_but_not_the_hessian(self, problem):
        """The step is a constant of the program; active systems belong to the dictionary of the
        copy.
        """
        codes = pudle.reference(problem).codes
        problem.solve_active(codes, codes)
        before = problem.lipschitz_constant
        other = problem.with_theta(problem.dictionary * 2)
        assert other.lipschitz_constant == before
        assert torch.equal(other.hessian, other.dictionary.T @ other.dictionary)
        mine, _ = problem.solve_active(codes, codes)
        theirs, _ = other.solve_active(codes, codes)
        assert torch.allclose(theirs, mine / 4, rtol=1e-9)
