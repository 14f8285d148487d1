"""Scores: the formulas, the floors, and what has no score."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from support.oracles import tolerances
from support.problems.small_problems import sparse_problem

import pudle
from pudle.measuring.results.score import attempt
from pudle.measuring.scoring import ERRORS, Score
from pudle.references.certified import Certificate


@pytest.fixture(scope="module")
def reference():
    return pudle.reference(sparse_problem())


def scored(reference, gradient=None, codes=None):
    """Score the truth, or what stands in place of its gradient or its codes."""
    gradient = reference.gradient if gradient is None else gradient
    codes = reference.codes if codes is None else codes
    return pudle.score(pudle.Estimate(gradient, codes), reference)


def check_unscored(score, status, reason=""):
    """No number, zero least of all, where there is no score."""
    assert score.status == status and reason in score.reason
    assert score.reason and len(score.reason.splitlines()) == 1
    assert all(math.isnan(getattr(score, name)) for name in ERRORS) and not score.at_floor


@pytest.mark.parametrize("size", [1e-8, 1e-3, 0.5, 10.0])
def test_formulas(reference, size):
    """The truth with Gaussian noise of the given relative norm in the gradient, and some in the
    codes.
    """
    random = np.random.default_rng([0, 99])
    truth, codes = reference.gradient.numpy(), reference.codes.numpy()
    noise = random.standard_normal(truth.shape)
    g = truth + noise * size * np.linalg.norm(truth) / np.linalg.norm(noise)
    z = codes + size * random.standard_normal(codes.shape)
    gradient, given = torch.tensor(g), torch.tensor(z)
    score = scored(reference, gradient, given)
    g, truth = g.ravel(), truth.ravel()
    absolute = np.linalg.norm(g - truth)
    assert score.status == "ok" and score.reason == "" and not score.at_floor
    assert score.absolute_error == pytest.approx(absolute, rel=tolerances.CLOSED_FORM, abs=0)
    relative = absolute / np.linalg.norm(truth)
    assert score.relative_error == pytest.approx(relative, rel=tolerances.CLOSED_FORM, abs=0)
    # 1 - cos without its cancellation.
    norms = np.linalg.norm(g), np.linalg.norm(truth)
    cosine = (absolute**2 - (norms[0] - norms[1]) ** 2) / (2 * norms[0] * norms[1])
    assert score.cosine_error == pytest.approx(cosine, rel=1e-6 if size < 1e-4 else 1e-9, abs=0)
    expected = np.linalg.norm(z - codes, axis=1).mean()
    assert score.code_error == pytest.approx(expected, rel=tolerances.CLOSED_FORM)
    assert score.support_error == np.any(np.sign(z) != np.sign(codes), axis=1).mean()
    # An error equal to the bound is at the floor, and what was scored is left alone.
    bound = dataclasses.replace(reference, bound=score.relative_error)
    assert scored(bound, gradient, given).at_floor
    assert np.array_equal(gradient.numpy().ravel(), g) and np.array_equal(given, z)


def test_support_error_counts_samples(reference):
    codes = reference.codes.clone()
    codes[int((codes != 0).any(1).nonzero()[0])] *= -1
    score = scored(reference, codes=codes)
    assert score.support_error == 1 / len(codes) and score.code_error > 0


@pytest.mark.parametrize("factor", [0.0, 0.9])
def test_no_error_is_reported_below_the_bound(reference, factor):
    score = scored(reference, reference.gradient * (1 + factor * reference.bound))
    norm = float(torch.linalg.norm(reference.gradient))
    assert score.relative_error == reference.bound > 0
    assert score.absolute_error == reference.bound * norm
    assert score.cosine_error == reference.bound**2 / 2 > 0
    assert score.code_error == reference.certificate.code_error > 0
    assert score.support_error == 0.0
    assert score.at_floor and score.status == "ok"


@pytest.mark.parametrize("factor, cosine, error", [(0.0, 1.0, 1.0), (-1.0, 2.0, 2.0)])
def test_a_zero_estimate_is_orthogonal_and_an_opposite_one_opposite(
    reference, factor, cosine, error
):
    score = scored(reference, reference.gradient * factor)
    assert score.cosine_error == pytest.approx(cosine, rel=1e-14)
    assert score.relative_error == pytest.approx(error, rel=1e-14)


def test_single_precision_is_scored_in_double(reference):
    """Rounding the truth to float32 shows as an error near 1e-8, not as zero and not as the float64
    bound; the square of a large norm exceeds float32.
    """
    codes, truth = reference.codes.float(), reference.codes.numpy()
    score = scored(reference, reference.gradient.float(), codes)
    assert 1e-9 < score.relative_error < 1e-7 and not score.at_floor
    expected = np.linalg.norm(codes.numpy().astype(float) - truth, axis=1).mean()
    assert score.code_error == pytest.approx(expected, rel=tolerances.CLOSED_FORM)
    large = scored(reference, reference.gradient.float() * 1e25)
    assert large.status == "ok" and large.relative_error == pytest.approx(1e25, rel=1e-6)


@pytest.mark.parametrize("bad", [float("nan"), -float("inf")])
@pytest.mark.parametrize("where", ["gradient", "codes"])
def test_not_finite_is_diverged(reference, where, bad):
    given = getattr(reference, where).clone()
    given[0, 0] = bad
    reason = f"1 of {given.numel()} entries of the {where} are NaN or infinite"
    check_unscored(scored(reference, **{where: given}), "diverged", reason)


def test_overflowing_norm_is_diverged(reference):
    """Finite entries whose norm is infinite give an infinite error and a meaningless cosine."""
    score = scored(reference, torch.full_like(reference.gradient, 1e200))
    check_unscored(score, "diverged", "gradient or codes exceed 1e+150")


@pytest.mark.parametrize("where", ["gradient", "codes"])
def test_a_wrong_shape_is_an_error_that_names_both_shapes(reference, where):
    truth = getattr(reference, where)
    for given in (truth[:, 1:], truth.T):
        reason = f"{where} has shape {tuple(given.shape)} where {tuple(truth.shape)} is due"
        check_unscored(scored(reference, **{where: given}), "error", reason)


UNUSABLE = {
    "ndarray": np.zeros((2, 2)),
    "one of torch.int64, torch.strided on cpu": torch.zeros(2, 2, dtype=torch.int64),
    "one of torch.complex128, torch.strided on cpu": torch.zeros(2, 2, dtype=torch.complex128),
    "one of torch.float32, torch.sparse_coo on cpu": torch.zeros(2, 2).to_sparse(),
    "one of torch.float32, torch.strided on meta": torch.zeros(2, 2, device="meta"),
}


@pytest.mark.parametrize("kind", UNUSABLE)
@pytest.mark.parametrize("where", ["gradient", "codes"])
def test_what_is_no_dense_tensor_of_floats_is_an_error(reference, where, kind):
    score = scored(reference, **{where: UNUSABLE[kind]})
    check_unscored(score, "error", f"{where} is not a dense tensor of floats but {kind}: repair")


def test_a_reference_without_a_certified_gradient_is_not_scored_against(reference):
    """Samples are never left out of a score: one that is not certified takes the whole case with
    it.
    """
    degenerate = pudle.reference(sparse_problem(penalty=1e3))
    check_unscored(scored(degenerate), "degenerate", "100% of the codes are all zero")
    one = {"status": "uncertified", "reason": "1 of 40 samples"}
    certificate = Certificate(samples=40, uncertified=1)
    flawed = dataclasses.replace(reference, **one, certificate=certificate)
    check_unscored(scored(flawed), "uncertified")


def test_text_of_a_score_has_its_numbers_or_its_reason():
    numbers = repr(Score(relative_error=0.12345, at_floor=True))
    assert numbers == "Score(relative_error=0.123, at the bound of the reference)"
    failed = Score(status="diverged", reason="it is infinite")
    assert repr(failed) == "Score(diverged: it is infinite)"


@dataclasses.dataclass(frozen=True)
class Restless(pudle.GradientEstimator):
    """Backpropagation with a part that grows from call to call."""

    part: float
    calls: itertools.count = dataclasses.field(default_factory=itertools.count)
    name, computes = "restless", "heuristic"

    def estimate(self, problem, algorithm, depth):
        estimate = pudle.make_estimator("backprop").estimate(problem, algorithm, depth)
        scale = 1 + self.part * next(self.calls)
        return dataclasses.replace(estimate, gradient=scale * estimate.gradient)


class Random(Restless):
    computes = "stochastic"


@pytest.mark.parametrize(
    "estimator, status",
    [(Restless(1e-3), "error"), (Restless(1e-14), "ok"), (Random(1e-3), "ok")],
)
def test_a_gradient_that_changes_from_call_to_call_is_no_score_unless_it_says_so(estimator, status):
    first, second = attempt(estimator, sparse_problem(), pudle.Ista(), (2, 3))
    assert getattr(second, "status", "ok") == status
    if status == "error":
        assert 'or set computes = "stochastic"' in first.reason


class Flattering(torch.Tensor):
    """A tensor whose own norm and differences make every error zero."""

    def norm(self, *rest, **named):
        return torch.zeros(())

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        return torch.zeros(())


class Elsewhere(torch.Tensor):
    """A tensor that takes torch's operations over, whose entries are what these say."""

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return torch.zeros(())


class Late(pudle.Estimate):
    """An estimate that gives another tensor than it was made with."""

    gradient = property(lambda self: self.codes_of_gradient.as_subclass(Flattering))

    def __init__(self, gradient, codes):
        object.__setattr__(self, "codes_of_gradient", gradient)
        object.__setattr__(self, "codes", codes)
        object.__setattr__(self, "diagnostics", {})


def test_an_estimate_of_another_class_of_tensor_gets_the_score_of_its_entries(reference):
    wrong = reference.gradient + 1
    plain = scored(reference, wrong)
    assert plain.relative_error > 0.1
    assert scored(reference, wrong.as_subclass(Flattering)) == plain
    assert scored(reference, torch.nn.Parameter(wrong)) == plain
    assert pudle.score(Late(wrong, reference.codes), reference) == plain
    codes = reference.codes + 1
    assert scored(reference, codes=codes.as_subclass(Flattering)) == scored(reference, codes=codes)
    other = torch.Tensor._make_subclass(Elsewhere, wrong)
    check_unscored(scored(reference, other), "error", "gradient is not a dense tensor of floats")
    assert type(pudle.Estimate(wrong, codes, adjoint=codes.as_subclass(Flattering)).adjoint) is (
        torch.Tensor
    )
