"""Scores: the formulas, the floors, and what has no score."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import tolerances
import torch
from examples import ridge_problem, sparse_problem

import pudle
from pudle.measuring.scoring import Score
from pudle.references.certified import Certificate

ERRORS = ("relative_error", "absolute_error", "cosine_error", "code_error", "support_error")


@pytest.fixture(scope="module")
def reference():
    return pudle.reference(sparse_problem())


def perturbed(reference, size: float, seed: int = 0) -> pudle.Estimate:
    """The truth with Gaussian noise of the given relative norm in the gradient, and some in the
    codes.
    """
    random = np.random.default_rng([seed, 99])
    gradient, codes = reference.gradient.numpy(), reference.codes.numpy()
    noise = random.standard_normal(gradient.shape)
    noise *= size * np.linalg.norm(gradient) / np.linalg.norm(noise)
    return pudle.Estimate(
        torch.tensor(gradient + noise),
        torch.tensor(codes + size * random.standard_normal(codes.shape)),
    )


def check_unscored(score: Score, status: str) -> None:
    """No number, zero least of all, where there is no score."""
    assert score.status == status
    assert score.reason and len(score.reason.splitlines()) == 1
    for name in ERRORS:
        assert math.isnan(getattr(score, name)), f"{name} holds a number"
    assert not score.at_floor


@pytest.mark.parametrize("size", [1e-8, 1e-3, 0.5, 10.0])
def test_formulas(reference, size):
    estimate = perturbed(reference, size)
    score = pudle.score(estimate, reference)
    g, truth = estimate.gradient.numpy().ravel(), reference.gradient.numpy().ravel()
    z, codes = estimate.codes.numpy(), reference.codes.numpy()
    absolute = np.linalg.norm(g - truth)
    assert score.status == "ok" and score.reason == "" and not score.at_floor
    assert score.absolute_error == pytest.approx(absolute, rel=tolerances.CLOSED_FORM, abs=0)
    assert score.relative_error == pytest.approx(
        absolute / np.linalg.norm(truth), rel=tolerances.CLOSED_FORM, abs=0
    )
    assert score.relative_error == pytest.approx(size, rel=1e-6, abs=0)
    # 1 - cos by its definition, in extended precision, which at size 1e-8 double cannot resolve.
    g, truth = g.astype(np.longdouble), truth.astype(np.longdouble)
    cosine = float(1 - g @ truth / np.sqrt((g @ g) * (truth @ truth)))
    if size > 1e-4 or np.finfo(np.longdouble).eps < 1e-18:
        assert score.cosine_error == pytest.approx(cosine, rel=1e-2 if size < 1e-4 else 1e-9, abs=0)
    assert score.code_error == pytest.approx(
        np.linalg.norm(z - codes, axis=1).mean(), rel=tolerances.CLOSED_FORM
    )
    assert score.support_error == np.any(np.sign(z) != np.sign(codes), axis=1).mean()


def test_support_error_counts_samples(reference):
    codes = reference.codes.clone()
    row = int((codes != 0).any(1).nonzero()[0])
    codes[row] *= -1
    score = pudle.score(pudle.Estimate(reference.gradient, codes), reference)
    assert score.support_error == 1 / len(codes)
    assert score.code_error > 0


@pytest.mark.parametrize("factor", [0.0, 0.1, 0.9])
def test_no_error_is_reported_below_the_bound(reference, factor):
    estimate = pudle.Estimate(reference.gradient * (1 + factor * reference.bound), reference.codes)
    score = pudle.score(estimate, reference)
    norm = float(torch.linalg.norm(reference.gradient))
    assert score.relative_error == reference.bound > 0
    assert score.absolute_error == reference.bound * norm
    assert score.cosine_error == reference.bound**2 / 2 > 0
    assert score.code_error == reference.certificate.code_error > 0
    assert score.support_error == 0.0
    assert score.at_floor and score.status == "ok"


def test_an_error_just_above_the_bound_is_not_at_the_floor(reference):
    score = pudle.score(
        pudle.Estimate(reference.gradient * (1 + 3 * reference.bound), reference.codes), reference
    )
    assert not score.at_floor
    assert score.relative_error == pytest.approx(3 * reference.bound, rel=1e-2, abs=0)


def test_zero_estimate(reference):
    """A zero vector has no direction: it counts as orthogonal, never as aligned."""
    score = pudle.score(
        pudle.Estimate(torch.zeros_like(reference.gradient), reference.codes), reference
    )
    assert score.cosine_error == 1.0
    assert score.relative_error == pytest.approx(1.0, rel=1e-14)


def test_opposite_estimate(reference):
    score = pudle.score(pudle.Estimate(-reference.gradient, reference.codes), reference)
    assert score.cosine_error == pytest.approx(2.0, rel=1e-14)
    assert score.relative_error == pytest.approx(2.0, rel=1e-14)


def test_float32_estimate_has_a_floor_of_its_own(reference):
    """Rounding the truth to float32 shows as an error near 1e-8, not as zero and not as the float64
    bound.
    """
    estimate = pudle.Estimate(reference.gradient.float(), reference.codes.float())
    score = pudle.score(estimate, reference)
    assert 1e-9 < score.relative_error < 1e-7
    assert not score.at_floor


def test_scalar_parameter():
    reference = pudle.reference(ridge_problem())
    score = pudle.score(pudle.Estimate(reference.gradient * 1.5, reference.codes), reference)
    assert score.relative_error == pytest.approx(0.5, rel=tolerances.CLOSED_FORM)
    assert score.cosine_error == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("where", ["gradient", "codes"])
def test_not_finite_is_diverged(reference, where, bad):
    estimate = pudle.Estimate(reference.gradient.clone(), reference.codes.clone())
    getattr(estimate, where)[0, 0] = bad
    score = pudle.score(estimate, reference)
    check_unscored(score, "diverged")
    count = getattr(estimate, where).numel()
    assert score.reason == f"1 of {count} entries of the {where} are NaN or infinite"


def test_overflowing_norm_is_diverged(reference):
    """Finite entries whose norm is infinite give an infinite error and a meaningless cosine."""
    score = pudle.score(
        pudle.Estimate(torch.full_like(reference.gradient, 1e200), reference.codes), reference
    )
    check_unscored(score, "diverged")
    assert score.reason == "the norm of the gradient exceeds float64: its errors have no meaning"


@pytest.mark.parametrize("where", ["gradient", "codes"])
def test_wrong_shape_is_an_error(reference, where):
    estimate = pudle.Estimate(reference.gradient, reference.codes)
    estimate = dataclasses.replace(estimate, **{where: getattr(estimate, where)[:, 1:]})
    score = pudle.score(estimate, reference)
    check_unscored(score, "error")
    assert where in score.reason and "repair the estimator" in score.reason


def test_transposed_gradient_is_an_error(reference):
    score = pudle.score(pudle.Estimate(reference.gradient.T, reference.codes), reference)
    check_unscored(score, "error")


def test_degenerate_reference_is_not_scored_against():
    reference = pudle.reference(sparse_problem(penalty=1e3))
    score = pudle.score(pudle.Estimate(reference.gradient, reference.codes), reference)
    check_unscored(score, "degenerate")
    assert "100% of the codes are all zero" in score.reason


def test_uncertified_reference_is_not_scored_against():
    problem = sparse_problem()
    dictionary = problem.dictionary.clone()
    dictionary[:, 1] = dictionary[:, 0]
    reference = pudle.reference(dataclasses.replace(problem, dictionary=dictionary))
    score = pudle.score(pudle.Estimate(reference.gradient, reference.codes), reference)
    check_unscored(score, "uncertified")
    assert f"of {len(reference.codes)} samples are not certified" in score.reason


def test_one_uncertified_sample_suffices(reference):
    """Samples are never left out of a score: one that is not certified takes the whole case with
    it.
    """
    flawed = dataclasses.replace(
        reference,
        status="uncertified",
        reason="1 of 40 samples",
        certificate=Certificate(samples=40, uncertified=1),
    )
    check_unscored(
        pudle.score(pudle.Estimate(reference.gradient, reference.codes), flawed), "uncertified"
    )


def test_scoring_leaves_the_estimate_alone(reference):
    estimate = perturbed(reference, 0.1)
    gradient, codes = estimate.gradient.clone(), estimate.codes.clone()
    pudle.score(estimate, reference)
    assert torch.equal(estimate.gradient, gradient) and torch.equal(estimate.codes, codes)


def test_a_large_float32_estimate_is_scored_in_float64(reference):
    """The square of its norm exceeds float32."""
    estimate = pudle.Estimate(reference.gradient.float() * 1e25, reference.codes.float() * 1e25)
    score = pudle.score(estimate, reference)
    assert score.status == "ok" and score.relative_error == pytest.approx(1e25, rel=1e-6)
    assert score.code_error == pytest.approx(
        1e25 * float(torch.linalg.norm(reference.codes, dim=1).mean()), rel=1e-6
    )


def test_an_error_equal_to_the_bound_is_at_the_floor(reference):
    estimate = perturbed(reference, 0.5)
    bound = pudle.score(estimate, reference).relative_error
    assert pudle.score(estimate, dataclasses.replace(reference, bound=bound)).at_floor


@pytest.mark.parametrize("name", ["gradient", "codes"])
def test_the_reason_for_a_wrong_shape_names_both_shapes(reference, name):
    tensors = {"gradient": reference.gradient, "codes": reference.codes}
    score = pudle.score(pudle.Estimate(**(tensors | {name: tensors[name][1:]})), reference)
    check_unscored(score, "error")
    assert (
        f"{name} has shape {tuple(tensors[name][1:].shape)} where {tuple(tensors[name].shape)}"
        " is due" in score.reason
    )


UNUSABLE = {
    "NoneType": None,
    "ndarray": np.zeros((2, 2)),
    "one of torch.int64, torch.strided on cpu": torch.zeros(2, 2, dtype=torch.int64),
    "one of torch.complex128, torch.strided on cpu": torch.zeros(2, 2, dtype=torch.complex128),
    "one of torch.float64, torch.sparse_coo on cpu": (
        torch.zeros(2, 2, dtype=torch.float64).to_sparse()
    ),
    "one of torch.float64, torch.strided on meta": torch.zeros(
        2, 2, dtype=torch.float64, device="meta"
    ),
}


@pytest.mark.parametrize("kind", UNUSABLE)
@pytest.mark.parametrize("name", ["gradient", "codes"])
def test_what_is_no_dense_tensor_of_floats_is_an_error(reference, name, kind):
    estimate = pudle.Estimate(
        **{"gradient": reference.gradient, "codes": reference.codes} | {name: UNUSABLE[kind]}
    )
    score = pudle.score(estimate, reference)
    check_unscored(score, "error")
    assert (
        score.reason == f"{name} is not a dense tensor of floats but {kind}: repair the estimator"
    )


def test_codes_in_float32_are_scored_in_float64(reference):
    """Their error is that of rounding them, summed over the samples in float64."""
    codes = reference.codes.float()
    expected = np.linalg.norm(codes.numpy().astype(float) - reference.codes.numpy(), axis=1).mean()
    score = pudle.score(pudle.Estimate(reference.gradient, codes), reference)
    assert 1e-9 < expected and score.code_error == pytest.approx(
        expected, rel=tolerances.CLOSED_FORM
    )


def test_text_of_a_score_has_its_numbers_or_its_reason():
    assert (
        repr(Score(relative_error=0.12345, code_error=2.0))
        == "Score(relative_error=0.123, code_error=2)"
    )
    assert (
        repr(Score(relative_error=1e-15, at_floor=True))
        == "Score(relative_error=1e-15, at the bound of the reference)"
    )
    assert (
        repr(Score(status="diverged", reason="it is infinite")) == "Score(diverged: it is infinite)"
    )
