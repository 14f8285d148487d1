"""Sparse coding: its values, and errors of one line that names argument and remedy."""

import pytest
import torch
from support.oracles.comparisons import refusal

import pudle
from pudle.validation import check_alike

NAN = float("nan")
X, D = torch.ones(4, 3, dtype=torch.float64), torch.eye(3, 5, dtype=torch.float64)
GOOD = {"observations": X, "dictionary": D, "penalty": 0.1}
#: Changes, and parts of the refusal: the argument, and the remedy.
REFUSED = [
    ({"observations": X * NAN}, "observations has 12 entries", "remove or replace"),
    ({"dictionary": D.int()}, "dictionary has dtype int32", "dictionary.double()"),
    ({"observations": X.to_sparse()}, "observations is a sparse", "observations.to_dense()"),
    ({"dictionary": 0 * D}, "dictionary has only zeros", "give at least one entry"),
    ({"dictionary": D.T}, "dictionary has shape (5, 3)", "(m, p) with m = 3, as in observations"),
    ({"observations": "photographs"}, "observations is a str", "shape (n, m)"),
    ({"dictionary": D.float()}, "dictionary and observations differ in dtype", "convert one"),
    ({"loss": "lsso"}, "loss='lsso'", "choose from lasso, reconstruction"),
    ({"generating_codes": torch.ones(3, 5).double()}, "generating_codes", "(n, p) with n = 4"),
]


@pytest.mark.parametrize("changes, argument, remedy", REFUSED)
def test_bad_input_is_refused(changes, argument, remedy):
    text = refusal(lambda: pudle.SparseCoding(**GOOD | changes))
    assert text.startswith(argument) and remedy in text


def test_two_devices_are_refused():
    text = refusal(lambda: check_alike("dictionary", D.to("meta"), "observations", X))
    assert "differ in device (meta and cpu): convert one" in text


def test_with_theta_keeps_the_step_but_not_the_hessian(problem):
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
