"""Sparse coding: its values, and errors of one line that names argument and remedy."""

from __future__ import annotations

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
    "integer dictionary": (
        {"dictionary": torch.ones(3, 5, dtype=torch.int32)},
        "dictionary has dtype int32: convert it to float32 or float64, e.g. dictionary.double()",
    ),
    "sparse observations": (
        {"observations": X.to_sparse()},
        (
            "observations is a sparse, nested or meta tensor: give a dense one, e.g."
            " observations.to_dense()"
        ),
    ),
    "zero dictionary": (
        {"dictionary": torch.zeros_like(D)},
        "dictionary has only zeros: give at least one entry another value",
    ),
    "one sample as a vector": (
        {"observations": X[0]},
        "observations has shape (3,): give a tensor of shape (n, m)",
    ),
    "transposed dictionary": (
        {"dictionary": D.T},
        (
            "dictionary has shape (5, 3) and observations (4, 3): dictionary needs as many rows as"
            " observations has columns (3); atoms are columns, samples are rows"
        ),
    ),
    "no samples": ({"observations": X[:0]}, "observations"),
    "no tensor": (
        {"observations": "photographs"},
        "observations is a str: give a tensor of shape (n, m)",
    ),
    "two dtypes": (
        {"dictionary": D.float()},
        (
            "dictionary and observations differ in dtype (torch.float32 and torch.float64): convert"
            " one, e.g. dictionary.to(observations)"
        ),
    ),
    "negative penalty": ({"penalty": -0.1}, "penalty=-0.1 is out of range: give a number > 0"),
    "NaN penalty": ({"penalty": NAN}, "penalty=nan is not a finite number: give a number > 0"),
    "unknown loss": ({"loss": "lsso"}, "loss='lsso' is unknown: choose from lasso, reconstruction"),
    "generating codes of another shape": (
        {"generating_codes": torch.ones(3, 5, dtype=torch.float64)},
        "generating_codes has shape (3, 5): it must be (4, 5) to fit the others",
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

    @pytest.mark.parametrize("shape", [{"m": 12, "p": 18}, {"m": 20, "p": 7}], ids=str)
    def test_lipschitz_constant_is_the_largest_eigenvalue(self, shape):
        problem = sparse_problem(**shape)
        _, d = arrays_of(problem)
        largest = np.linalg.norm(d, 2) ** 2
        assert problem.lipschitz_constant == pytest.approx(largest, rel=1e-12)
        assert problem.lipschitz_constant < 0.9 * np.linalg.norm(d) ** 2, (
            "the Frobenius norm is another number"
        )

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
