"""Certified references against independent solvers, differences of the exact loss and their own
bound.
"""

import dataclasses
import math
from dataclasses import fields

import numpy as np
import pytest
import torch
from support.oracles import in_numpy, tolerances
from support.oracles.comparisons import directional_error, refusal, relative
from support.problems.convolutions import convolutional, thresholded
from support.problems.small_problems import (
    PENALTY,
    arrays_of,
    penalty_selection,
    ridge_problem,
    sparse_arrays,
    sparse_problem,
)

import pudle
from pudle import SparseCoding
from pudle.references import lasso
from pudle.references.certified import default_target
from pudle.references.probe import probe
from pudle.references.records import finish


@pytest.mark.parametrize("nonnegative", [False, True])
def test_central_differences_of_the_exact_loss(loss, nonnegative):
    problem = sparse_problem(loss, nonnegative=nonnegative)
    x, d = arrays_of(problem)
    reference = pudle.reference(problem)
    assert reference.status == "certified"
    assert 0 < reference.bound < tolerances.USEFUL_BOUND
    signs = np.sign(in_numpy.exact_codes(x, d, PENALTY, nonnegative=nonnegative)).astype(float)

    def value(at):
        codes = in_numpy.polish(x, at, PENALTY, signs)
        assert (np.sign(codes) == signs).all(), "the support moved within the difference step"
        return in_numpy.outer_loss(x, at, codes, np.longdouble(PENALTY), loss)

    error = directional_error(reference.gradient, value, d, 5)
    assert error < tolerances.EXACT_CENTRAL_DIFFERENCES


def test_float32_problem_gets_a_float64_reference(loss, device):
    problem = sparse_problem(loss, torch.float32, device)
    reference = pudle.reference(problem)
    assert reference.status == "certified"
    for tensor in (reference.gradient, reference.codes):
        assert tensor.dtype == torch.float64 and tensor.device.type == "cpu"
    # It is the exact gradient at the float32 numbers, in float64.
    x, d = map(torch.tensor, arrays_of(problem))
    double = pudle.SparseCoding(observations=x, dictionary=d, penalty=PENALTY, loss=loss)
    assert torch.equal(reference.gradient, pudle.reference(double).gradient)


def test_samples_of_every_chunk_count(loss, monkeypatch):
    problem = sparse_problem(loss)
    whole = pudle.reference(problem)
    monkeypatch.setattr(lasso, "CHUNK", 17)
    parts = pudle.reference(problem)
    assert relative(parts.gradient, whole.gradient) < tolerances.SAME_ARITHMETIC
    assert parts.certificate.samples == len(whole.codes)


@pytest.mark.parametrize("target", ["ghat", "gstar", "gtilde"])
def test_formula_of_the_lasso_whatever_the_loss(loss, target):
    problem = sparse_problem(loss)
    reference, (x, d) = pudle.reference(problem, target), arrays_of(problem)
    at = problem.generating_dictionary.numpy() if target == "gstar" else d
    codes = in_numpy.exact_codes(x, at, PENALTY)
    codes = problem.generating_codes.numpy() if target == "gtilde" else codes
    truth = (-(x - codes @ d.T).T @ codes / len(x)).astype(float)
    assert (reference.status, reference.target) == ("certified", target)
    assert relative(reference.gradient, truth) < tolerances.CLOSED_FORM
    assert reference.certificate.samples == len(x)
    if target == "ghat":
        assert torch.equal(reference.gradient, pudle.reference(sparse_problem()).gradient)
    if target == "gtilde":
        assert torch.equal(reference.codes, problem.generating_codes)


@pytest.mark.parametrize(
    "problem, target, words",
    [
        (lambda: sparse_problem(), "limit", "pass it, such as algorithm=pudle.Ista()"),
        (lambda: ridge_problem(), "ghat", "use target='exact' for Ridge"),
        (lambda: convolutional(), "gtilde", "needs generating_codes"),
        (lambda: sparse_problem(), "gradient", "target='gradient' is unknown: choose from"),
        (
            lambda: convolutional(targets=torch.zeros_like(convolutional().observations)),
            "gstar",
            "does not hold for a problem with targets: use target='exact'",
        ),
    ],
)
def test_a_target_that_the_problem_has_not_is_refused(problem, target, words):
    assert words in refusal(lambda: pudle.reference(problem(), target))


def test_kinds_without_an_exact_solution_are_refused():
    written = dataclasses.replace(sparse_problem(), loss=lambda codes, dictionary: codes.sum())
    for problem in (thresholded(), written):
        text = refusal(lambda p=problem: pudle.reference(p, "exact"), pudle.UnsupportedProblem)
        assert "use target='limit'" in text


def test_default_target_is_the_exact_one_where_the_algorithm_leads_to_a_known_solution():
    fixed_point = pudle.FixedPoint(
        torch.tensor(0.5), lambda z, theta: theta * z, lambda z, theta: z.sum(), torch.zeros(1)
    )
    known = dataclasses.replace(fixed_point, solution=lambda theta: 0 * theta[None])
    hard = pudle.make_algorithm("ista(thresholding='hard(threshold=0.2)')")
    for problem in (
        sparse_problem(),
        convolutional(),
        penalty_selection(),
        ridge_problem(),
        known,
    ):
        assert default_target(problem) == default_target(problem, pudle.Fista()) == "exact"
        assert default_target(problem, hard) == "limit"
    written = dataclasses.replace(sparse_problem(), loss=lambda codes, dictionary: codes.sum())
    for problem in (thresholded(), fixed_point, written, object()):
        assert default_target(problem) == default_target(problem, pudle.Ista()) == "limit"


def test_a_derived_problem_may_have_another_loss():
    def doubled(problem, codes):
        return 2 * SparseCoding.outer_loss(problem, codes)

    problem, algorithm = sparse_problem(loss="reconstruction"), pudle.Fista()
    kind = type("Doubled", (SparseCoding,), {"outer_loss": doubled})
    mine = kind(**{each.name: getattr(problem, each.name) for each in fields(problem)})
    limit = pudle.reference(mine, default_target(mine), algorithm)
    expected = 2 * pudle.reference(problem).gradient
    assert relative(limit.gradient, expected) < tolerances.EXACT_CENTRAL_DIFFERENCES


class TestUncertified:
    """Samples without sufficient evidence are counted and never dropped."""

    def test_duplicated_atom(self, loss):
        arrays = sparse_arrays()
        x, d = arrays["observations"], arrays["dictionary"].copy()
        d[:, 5] = d[:, 0]
        # A sample is ambiguous if its minimizer without the duplicate uses the atom.
        kept = np.delete(d, 5, axis=1)
        ambiguous = int((in_numpy.exact_codes(x, kept, PENALTY)[:, 0] != 0).sum())
        assert 0 < ambiguous < len(x)
        reference = pudle.reference(
            pudle.SparseCoding(
                observations=torch.tensor(x), dictionary=torch.tensor(d), penalty=PENALTY, loss=loss
            )
        )
        assert reference.status == "uncertified"
        assert reference.certificate.uncertified == ambiguous
        assert reference.reason.startswith(
            f"{ambiguous} of {len(x)} samples are not certified: {ambiguous} have a singular"
        )
        assert reference.certificate.samples == len(reference.codes) == len(x)

    @pytest.mark.parametrize("size", [1e100, 1e160])
    def test_overflow_is_not_certified(self, loss, size):
        """A gradient whose norm exceeds float64 would make every relative error zero."""
        problem = sparse_problem(loss)
        scaled = pudle.SparseCoding(
            observations=problem.observations * size,
            dictionary=problem.dictionary,
            penalty=PENALTY * size,
            loss=loss,
        )
        reference = pudle.reference(scaled)
        if reference.status == "certified":
            assert torch.isfinite(torch.linalg.norm(reference.gradient))
            assert 0 < reference.bound < tolerances.USEFUL_BOUND
        else:
            assert reference.reason and len(reference.reason.splitlines()) == 1


@pytest.mark.parametrize(
    "gradient, error, zero_codes, uncertified, status, bound, words",
    [
        ((3, 4), 0.5, 0.0, 0, "certified", 0.1, ""),
        ((3, 4), 10.0, 0.0, 1, "uncertified", 2.0, "as it was"),
        ((3, 4), 5.0, 0.0, 0, "degenerate", 1.0, "gradient is zero: relative errors have no"),
        ((0, 0), 0.5, 0.25, 0, "degenerate", math.inf, "zero (25% of the codes are all zero): "),
        ((1e308, 1.7e308), 0.5, 0.0, 0, "uncertified", math.inf, "exceeds float64: scale the"),
        ((math.nan, 1), 0.5, 0.0, 0, "uncertified", math.inf, "exceeds float64"),
    ],
)
def test_the_status_follows_from_the_certificate_and_the_bound(
    gradient, error, zero_codes, uncertified, status, bound, words
):
    certificate = pudle.Certificate(4, uncertified=uncertified, zero_codes=zero_codes)
    reason, gradient = "as it was" * uncertified, torch.tensor(gradient).double()
    made = finish(gradient, error, torch.zeros(4, 2), "exact", certificate, reason)
    assert (made.status, made.bound, made.certificate) == (status, bound, certificate)
    assert words in made.reason and bool(words) == bool(made.reason)


def test_what_is_known_of_a_problem_makes_its_default_target():
    spec = "logistic(penalty=0.1)"
    problem = pudle.make_dataset(spec).problem()
    assert default_target(problem) == "exact"
    assert default_target(dataclasses.replace(problem, constants=None)) == "limit"


def test_a_rule_that_has_no_minimizer_makes_the_limit_the_default():
    problem = sparse_problem("lasso")
    hard = pudle.make_algorithm("ista(thresholding='hard')")
    assert default_target(problem, pudle.Ista()) == default_target(problem) == "exact"
    assert default_target(problem, hard) == "limit"
    assert pudle.reference(problem, algorithm=hard).target == "limit"


def test_a_probe_tells_problems_apart_that_differ_in_their_gradient_alone():
    """Of two losses with the same value and state, one has twice the derivative in theta."""

    def problem(loss):
        return pudle.FixedPoint(
            theta=torch.ones(2).double(),
            step=lambda z, theta: z / 2 + theta.detach(),
            loss=loss,
            initial=torch.zeros(2).double(),
        )

    once, twice = (
        probe(problem(loss), pudle.make_algorithm("iteration"))
        for loss in (
            lambda z, theta: (z + theta).sum(),
            lambda z, theta: (z + 2 * theta - theta.detach()).sum(),
        )
    )
    # Theta, then states, losses and gradients from two starts.
    assert len(once) == len(twice) == 7
    same = [a == b for a, b in zip(once, twice, strict=True)]
    assert same == [True, True, True, False, True, True, False]
