"""Certified references against independent solvers, differences of the exact loss and their own
bound.
"""

from __future__ import annotations

import dataclasses
import math
import time
import warnings

import numpy as np
import oracles
import pytest
import tolerances
import torch
from comparisons import refusal
from convolutions import convolutional
from examples import (
    PENALTY,
    arrays_of,
    directions,
    penalty_selection,
    ridge_problem,
    sparse_arrays,
    sparse_problem,
)

import pudle
from pudle.references import lasso
from pudle.references.certified import TARGETS, _finish, default_target, solve

extended = pytest.mark.skipif(
    np.finfo(np.longdouble).eps > 1e-18,
    reason="numpy's long double is no more precise than double here",
)


def gradient_formula(x, z, d):
    """``-(X - Z D^T)^T Z / n``, the gradient of the lasso loss at fixed codes."""
    return -(x - z @ d.T).T @ z / len(x)


def exact_gradient(problem, signs=None) -> np.ndarray:
    """Exact gradient in extended precision, from the implicit function theorem on a support that is
    verified here.
    """
    x, d = arrays_of(problem)
    if signs is None:
        z = oracles.exact_codes(x, d, problem.penalty, nonnegative=problem.nonnegative)
    else:
        z = oracles.polish(x, d, problem.penalty, signs)
        assert oracles.kkt_violation(x, d, problem.penalty, z).max() < 1e-12
    x, d = x.astype(np.longdouble), d.astype(np.longdouble)
    e = z @ d.T - x
    gradient = e.T @ z
    if problem.loss == "reconstruction":
        # The residual correlates with the active atoms as -penalty times the signs.
        v = oracles.polish(np.zeros_like(x), d, 1.0, np.sign(z)) * np.longdouble(problem.penalty)
        gradient = gradient - e.T @ v - d @ v.T @ z
    return gradient / len(x)


@pytest.fixture(scope="module")
def solved():
    problem = sparse_problem(n=60, m=20, p=30)
    return problem, pudle.reference(problem)


def thresholded() -> pudle.ThresholdedConvolutionalSparseCoding:
    images, filters = torch.ones(1, 1, 4, 4).double(), torch.ones(1, 1, 3, 3).double()
    return pudle.ThresholdedConvolutionalSparseCoding(
        observations=images, dictionary=filters, penalty=torch.ones(1).double()
    )


def refused(problem, target, **changes):
    return lambda: pudle.reference(dataclasses.replace(problem(), **changes), target)


#: What is refused, with the kind of the error and its whole text.
REFUSED = {
    "a kind that is not known": (
        lambda: solve(object(), "exact"),
        pudle.UnsupportedProblem,
        (
            "reference: no exact solution is known for object: use target='limit', or register a"
            " solver with pudle.references.certified.solve.register"
        ),
    ),
    "a limit of no algorithm": (
        refused(sparse_problem, "limit"),
        pudle.InvalidArgument,
        (
            "target='limit' is the limit of an algorithm: pass it, such as algorithm=pudle.Ista(),"
            " or use target='exact' where an exact solution is known"
        ),
    ),
    "a loss that is a function": (
        refused(sparse_problem, "exact", loss=lambda codes, dictionary: codes.sum()),
        pudle.UnsupportedProblem,
        (
            "reference: no bound is known for a loss that is a function: use target='limit', whose"
            " error is estimated, or target='ghat' for the lasso's gradient"
        ),
    ),
    "thresholds that are learned": (
        refused(thresholded, "exact"),
        pudle.UnsupportedProblem,
        (
            "reference: target='exact' is not known for ThresholdedConvolutionalSparseCoding: use"
            " target='limit', or learn a penalty by PenaltySelection"
        ),
    ),
    "ridge regression": (
        refused(ridge_problem, "ghat"),
        pudle.InvalidArgument,
        "target='ghat' is defined for sparse coding only: use target='exact' for Ridge",
    ),
    "penalty selection": (
        refused(penalty_selection, "gstar"),
        pudle.InvalidArgument,
        "target='gstar' is defined for sparse coding only: use target='exact' for PenaltySelection",
    ),
}
REFUSED |= {
    f"{target} with targets of the problem's own": (
        refused(convolutional, target, targets=torch.zeros_like(convolutional().observations)),
        pudle.InvalidArgument,
        (
            f"target='{target}' is the lasso's formula, which does not hold for a problem with"
            " targets: use target='exact'"
        ),
    )
    for target in ("gstar", "gtilde")
}


class TestAgainstOtherSolvers:
    """Codes of two well-kept solvers, both run beyond their usual stopping rules."""

    def test_scikit_learn(self, solved):
        linear_model = pytest.importorskip(
            "sklearn.linear_model", reason="scikit-learn is not installed"
        )
        problem, reference = solved
        x, d = arrays_of(problem)
        # scikit-learn divides the squared error by the number of rows.
        model = linear_model.Lasso(
            alpha=PENALTY / len(d), fit_intercept=False, tol=1e-16, max_iter=100_000
        )
        with warnings.catch_warnings():
            # Its duality gap need not reach 1e-16 for the codes to be right.
            warnings.filterwarnings("ignore", message=".*did not converge.*")
            codes = np.array([model.fit(d, sample).coef_.copy() for sample in x])
        assert np.abs(codes - reference.codes.numpy()).max() < tolerances.SOLVER_CODES

    def test_scikit_learn_path(self, solved):
        linear_model = pytest.importorskip(
            "sklearn.linear_model", reason="scikit-learn is not installed"
        )
        problem, reference = solved
        x, d = arrays_of(problem)
        for sample, codes in zip(x[:10], reference.codes.numpy(), strict=False):
            _, path, _ = linear_model.lasso_path(
                d, sample, alphas=[PENALTY / len(d)], tol=1e-14, max_iter=100_000
            )
            assert np.abs(path[:, 0] - codes).max() < tolerances.SOLVER_CODES

    def test_celer(self, solved):
        celer = pytest.importorskip(
            "celer", reason="celer, an independent lasso solver, is not installed"
        )
        problem, reference = solved
        x, d = arrays_of(problem)
        model = celer.Lasso(alpha=PENALTY / len(d), fit_intercept=False, tol=1e-13, max_iter=100)
        codes = np.array([model.fit(d, sample).coef_.copy() for sample in x])
        assert np.abs(codes - reference.codes.numpy()).max() < tolerances.SOLVER_CODES

    def test_nonnegative(self):
        linear_model = pytest.importorskip(
            "sklearn.linear_model", reason="scikit-learn is not installed"
        )
        problem = sparse_problem(n=60, m=20, p=30, nonnegative=True)
        reference = pudle.reference(problem)
        assert reference.status == "certified"
        x, d = arrays_of(problem)
        model = linear_model.Lasso(
            alpha=PENALTY / len(d), fit_intercept=False, positive=True, tol=1e-15, max_iter=100_000
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*did not converge.*")
            codes = np.array([model.fit(d, sample).coef_.copy() for sample in x])
        assert (codes >= 0).all() and (codes > 0).any()
        assert np.abs(codes - reference.codes.numpy()).max() < tolerances.SOLVER_CODES


class TestExactGradient:
    @pytest.mark.parametrize("nonnegative", [False, True])
    def test_central_differences_of_the_exact_loss(self, loss, nonnegative):
        problem = sparse_problem(loss, nonnegative=nonnegative)
        x, d = arrays_of(problem)
        reference = pudle.reference(problem)
        assert reference.status == "certified"
        signs = np.sign(oracles.exact_codes(x, d, PENALTY, nonnegative=nonnegative)).astype(float)

        def value(at):
            return oracles.exact_loss(x, at, PENALTY, loss, signs, nonnegative=nonnegative)

        size = float(torch.linalg.norm(reference.gradient))
        for direction in directions(d.shape, 5):
            truth = float(oracles.central_difference(value, d, direction))
            mine = float((reference.gradient.numpy() * direction).sum())
            assert abs(mine - truth) < tolerances.EXACT_CENTRAL_DIFFERENCES * size

    def test_losses_have_different_gradients(self):
        lasso, reconstruction = (
            pudle.reference(sparse_problem(loss)).gradient for loss in ("lasso", "reconstruction")
        )
        assert torch.linalg.norm(lasso - reconstruction) > 0.5 * torch.linalg.norm(lasso)

    @extended
    @pytest.mark.parametrize("nonnegative", [False, True])
    @pytest.mark.parametrize("seed", [0, 1, 2])
    def test_error_is_below_the_bound(self, loss, seed, nonnegative):
        """The true error, against a solution in extended precision, is below a bound that is itself
        small.
        """
        problem = sparse_problem(loss, seed=seed, nonnegative=nonnegative)
        reference = pudle.reference(problem)
        truth = exact_gradient(problem)
        error = np.linalg.norm((reference.gradient.numpy() - truth).astype(float)) / np.linalg.norm(
            truth.astype(float)
        )
        assert error <= reference.bound
        assert 0 < reference.bound < tolerances.USEFUL_BOUND

    @extended
    @pytest.mark.parametrize(
        "spec",
        [
            "sparse_gaussian(n_samples=200)",
            "bernoulli_gaussian(n_samples=200)",
            "sparse_gaussian(n_samples=200, noise=0.1)",
        ],
    )
    def test_error_is_below_the_bound_at_full_size(self, spec, loss):
        problem = pudle.make_dataset(spec).problem(loss)
        reference = pudle.reference(problem)
        assert reference.status == "certified"
        truth = exact_gradient(problem, np.sign(reference.codes.numpy())).astype(float)
        assert np.linalg.norm(
            reference.gradient.numpy() - truth
        ) <= reference.bound * np.linalg.norm(truth)
        assert reference.bound < tolerances.USEFUL_BOUND

    @extended
    def test_error_of_the_generating_codes_target_is_below_the_bound(self):
        problem = sparse_problem()
        x, d, z = (
            array.astype(np.longdouble)
            for array in (*arrays_of(problem), problem.generating_codes.numpy())
        )
        truth = gradient_formula(x, z, d).astype(float)
        reference = pudle.reference(problem, "gtilde")
        assert np.linalg.norm(
            reference.gradient.numpy() - truth
        ) <= reference.bound * np.linalg.norm(truth)
        assert 0 < reference.bound < tolerances.USEFUL_BOUND

    @extended
    def test_code_error_is_below_the_bound(self):
        problem = sparse_problem()
        x, d = arrays_of(problem)
        reference = pudle.reference(problem)
        errors = np.linalg.norm(
            (reference.codes.numpy() - oracles.exact_codes(x, d, PENALTY)).astype(float), axis=1
        )
        assert errors.max() <= reference.certificate.code_error < tolerances.USEFUL_BOUND

    @extended
    def test_optimality_in_extended_precision(self):
        problem = sparse_problem(n=60)
        x, d = arrays_of(problem)
        reference = pudle.reference(problem)
        violation = oracles.kkt_violation(x, d, PENALTY, reference.codes.numpy())
        assert violation.max() < tolerances.KKT
        assert reference.certificate.kkt_residual < tolerances.KKT

    def test_perturbed_support_would_be_noticed(self):
        """Codes that are off by a thousand times the code error exceed the bound."""
        problem = sparse_problem()
        x, d = arrays_of(problem)
        reference = pudle.reference(problem)
        z = reference.codes.numpy()
        off = z + 1e3 * reference.certificate.code_error * np.sign(z)
        moved = gradient_formula(x, off, d) - reference.gradient.numpy()
        assert np.linalg.norm(moved) > reference.bound * np.linalg.norm(reference.gradient.numpy())

    def test_float32_problem_gets_a_float64_reference(self, loss, device):
        problem = sparse_problem(loss, torch.float32, device)
        reference = pudle.reference(problem)
        assert reference.status == "certified"
        for tensor in (reference.gradient, reference.codes):
            assert tensor.dtype == torch.float64 and tensor.device.type == "cpu"
        # It is the exact gradient at the float32 numbers, in float64.
        x, d = arrays_of(problem)
        double = pudle.SparseCoding(
            observations=torch.tensor(x),
            dictionary=torch.tensor(d),
            penalty=problem.penalty,
            loss=loss,
        )
        assert torch.equal(reference.gradient, pudle.reference(double).gradient)

    def test_problem_is_left_alone(self, problem):
        problem.dictionary.requires_grad_()
        before = problem.dictionary.detach().clone()
        reference = pudle.reference(problem)
        assert not reference.gradient.requires_grad and not reference.codes.requires_grad
        assert torch.equal(problem.dictionary, before) and problem.dictionary.grad is None

    def test_more_samples_than_a_chunk(self):
        """Samples are solved in chunks: the result is the mean over all of them."""
        problem = sparse_problem(n=5000)
        x, d = arrays_of(problem)
        reference = pudle.reference(problem)
        assert reference.status == "certified" and reference.certificate.samples == 5000
        first, last = (
            pudle.reference(
                pudle.SparseCoding(
                    observations=part, dictionary=problem.dictionary, penalty=PENALTY
                )
            ).gradient
            for part in (problem.observations[:2000], problem.observations[2000:])
        )
        together = 0.4 * first + 0.6 * last
        assert torch.linalg.norm(
            reference.gradient - together
        ) < tolerances.SAME_ARITHMETIC * torch.linalg.norm(together)


class TestTargets:
    @pytest.mark.parametrize("loss", ["lasso", "reconstruction"])
    def test_ghat_is_the_lasso_gradient_whatever_the_loss(self, loss):
        ghat = pudle.reference(sparse_problem(loss), "ghat")
        assert ghat.target == "ghat"
        assert torch.equal(ghat.gradient, pudle.reference(sparse_problem("lasso")).gradient)
        x, d = arrays_of(sparse_problem())
        truth = gradient_formula(x, oracles.exact_codes(x, d, PENALTY), d).astype(float)
        assert np.linalg.norm(
            ghat.gradient.numpy() - truth
        ) < tolerances.CLOSED_FORM * np.linalg.norm(truth)

    def test_gstar_uses_the_lasso_codes_of_the_generating_dictionary(self, problem):
        x, d = arrays_of(problem)
        codes = oracles.exact_codes(x, problem.generating_dictionary.numpy(), PENALTY)
        truth = gradient_formula(x, codes, d).astype(float)
        reference = pudle.reference(problem, "gstar")
        assert reference.status == "certified"
        assert np.linalg.norm(
            reference.gradient.numpy() - truth
        ) < tolerances.CLOSED_FORM * np.linalg.norm(truth)

    def test_gtilde_uses_the_generating_codes(self, problem):
        x, d = arrays_of(problem)
        truth = gradient_formula(x, problem.generating_codes.numpy(), d)
        reference = pudle.reference(problem, "gtilde")
        assert reference.status == "certified"
        assert np.linalg.norm(
            reference.gradient.numpy() - truth
        ) < tolerances.CLOSED_FORM * np.linalg.norm(truth)
        assert torch.equal(reference.codes, problem.generating_codes)
        assert (reference.certificate.samples, reference.certificate.zero_codes) == (len(x), 0.0)

    @pytest.mark.parametrize(
        "target, lacking", [("gstar", "generating_dictionary"), ("gtilde", "generating_codes")]
    )
    def test_missing_generating_data_is_refused(self, target, lacking):
        arrays = sparse_arrays()
        problem = pudle.SparseCoding(
            observations=torch.tensor(arrays["observations"]),
            dictionary=torch.tensor(arrays["dictionary"]),
            penalty=0.2,
        )
        with pytest.raises(pudle.InvalidArgument) as failure:
            pudle.reference(problem, target)
        assert (
            str(failure.value)
            == f"target='{target}' needs {lacking}, which this problem lacks: pass it, or use"
            " target='ghat'"
        )

    def test_unknown_target_is_refused(self, problem):
        with pytest.raises(
            pudle.InvalidArgument,
            match=f"target='gradient' is unknown: choose from {', '.join(TARGETS)}",
        ):
            pudle.reference(problem, "gradient")

    @pytest.mark.parametrize("target", ["ghat", "gstar", "gtilde"])
    def test_ridge_has_the_exact_target_only(self, ridge, target):
        with pytest.raises(pudle.InvalidArgument, match="sparse coding only: use target='exact'"):
            pudle.reference(ridge, target)

    @pytest.mark.parametrize("kind", REFUSED)
    def test_what_has_no_such_target_is_refused_in_one_line_that_says_what_to_use(self, kind):
        call, error, text = REFUSED[kind]
        assert refusal(call, error) == text

    def test_without_a_target_it_is_the_default_of_problem_and_algorithm(self):
        hard = pudle.make_algorithm("ista(thresholding='hard(threshold=0.2)')")
        found = [
            pudle.reference(sparse_problem(n=5), algorithm=each).target
            for each in (None, pudle.Ista(), hard)
        ]
        assert found == ["exact", "exact", "limit"]

    def test_generating_codes_that_are_all_zero_are_counted(self):
        problem = sparse_problem()
        codes = problem.generating_codes.clone()
        codes[:10] = 0
        reference = pudle.reference(dataclasses.replace(problem, generating_codes=codes), "gtilde")
        assert (reference.certificate.zero_codes, reference.certificate.code_error) == (0.25, 0.0)

    def test_default_target_is_the_exact_one_where_the_algorithm_leads_to_a_known_solution(self):
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


class TestUncertified:
    """Samples without sufficient evidence are counted and never dropped."""

    def test_duplicated_atom(self, loss):
        arrays = sparse_arrays()
        x, d = arrays["observations"], arrays["dictionary"].copy()
        d[:, 5] = d[:, 0]
        # A sample is ambiguous if its minimizer without the duplicate uses the atom.
        kept = np.delete(d, 5, axis=1)
        ambiguous = int((oracles.exact_codes(x, kept, PENALTY)[:, 0] != 0).sum())
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

    def test_nearly_duplicated_atom_is_certified_or_says_why(self, monkeypatch):
        """As atoms come closer, either the bound still holds or the reference says why it is not
        certified.
        """
        monkeypatch.setattr(lasso, "MAX_ITERATIONS", 5000)
        arrays = sparse_arrays(n=20)
        random = np.random.default_rng(5)
        statuses = set()
        for distance in (1e-2, 1e-4, 1e-7):
            d = arrays["dictionary"].copy()
            d[:, 5] = d[:, 0] + distance * random.standard_normal(len(d))
            problem = pudle.SparseCoding(
                observations=torch.tensor(arrays["observations"]),
                dictionary=torch.tensor(d),
                penalty=PENALTY,
            )
            reference = pudle.reference(problem)
            statuses.add(reference.status)
            if reference.status == "certified":
                truth = exact_gradient(problem, np.sign(reference.codes.numpy())).astype(float)
                assert np.linalg.norm(
                    reference.gradient.numpy() - truth
                ) <= reference.bound * np.linalg.norm(truth)
            else:
                assert reference.certificate.uncertified > 0 and reference.reason
        assert statuses == {"certified", "uncertified"}, "both ways out were tried"

    def test_code_on_the_edge_of_its_support(self):
        """At this penalty an atom is about to become active, so rounding may change the support."""
        x = torch.tensor([[0.2 + 1e-15, 1.0]], dtype=torch.float64)
        reference = pudle.reference(
            pudle.SparseCoding(
                observations=x, dictionary=torch.eye(2, dtype=torch.float64), penalty=0.2
            )
        )
        assert reference.status == "uncertified"
        assert "safe margin from a change of support" in reference.reason

    def test_all_zero_codes_are_degenerate(self, loss):
        reference = pudle.reference(sparse_problem(loss, penalty=1e3))
        assert reference.status == "degenerate"
        assert "the exact gradient is zero (100% of the codes are all zero)" in reference.reason
        assert reference.certificate.zero_codes == 1.0
        assert not reference.gradient.any()

    def test_some_zero_codes_are_counted(self):
        problem = sparse_problem(n=40)
        observations = problem.observations.clone()
        observations[:10] *= 1e-3
        reference = pudle.reference(
            pudle.SparseCoding(
                observations=observations, dictionary=problem.dictionary, penalty=PENALTY
            )
        )
        assert reference.status == "certified"
        assert reference.certificate.zero_codes == 0.25

    @pytest.mark.parametrize("size", [1e100, 1e150, 1e160, 1e200])
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


class TestRidge:
    def test_exact_gradient(self, dtype):
        problem = ridge_problem(dtype)
        reference = pudle.reference(problem)
        x, d, c = (
            tensor.double().numpy()
            for tensor in (problem.observations, problem.dictionary, problem.weights)
        )
        truth = oracles.RidgeOracle(x, d, problem.strength, c, 0.1).exact()
        assert reference.status == "certified" and reference.gradient.shape == ()
        assert abs(float(reference.gradient) - truth) < tolerances.CLOSED_FORM * abs(truth)
        assert 0 < reference.bound < tolerances.USEFUL_BOUND

    @extended
    @pytest.mark.parametrize("strength", [1.0, 1e-3, 1e-6])
    def test_error_is_below_the_bound(self, strength):
        """Down to condition numbers near 1e6, against a solve refined in extended precision."""
        random = np.random.default_rng(8)
        x, d, c = (
            random.standard_normal((5, 6)),
            random.standard_normal((6, 9)) / 3,
            random.standard_normal(9),
        )
        problem = pudle.Ridge(
            observations=torch.tensor(x),
            dictionary=torch.tensor(d),
            weights=torch.tensor(c),
            strength=strength,
        )
        reference = pudle.reference(problem)
        long_d = d.astype(np.longdouble)
        hessian = long_d.T @ long_d + np.longdouble(strength) * np.eye(9, dtype=np.longdouble)
        inverse = np.linalg.inv(hessian.astype(float))
        z, v = np.zeros((5, 9), dtype=np.longdouble), np.zeros(9, dtype=np.longdouble)
        for _ in range(20):
            z = z + (x.astype(np.longdouble) @ long_d - z @ hessian) @ inverse
            v = v + (c.astype(np.longdouble) - hessian @ v) @ inverse
        truth = float(-(z @ v).mean())
        assert abs(float(reference.gradient) - truth) <= reference.bound * abs(truth)
        assert reference.certificate.condition_number == pytest.approx(
            np.linalg.cond(hessian.astype(float)), rel=1e-6
        )

    def test_zero_observations_are_degenerate(self):
        ridge = ridge_problem()
        reference = pudle.reference(
            pudle.Ridge(
                observations=torch.zeros_like(ridge.observations),
                dictionary=ridge.dictionary,
                weights=ridge.weights,
                strength=ridge.strength,
            )
        )
        assert reference.status == "degenerate"
        assert "the exact gradient is zero" in reference.reason


def test_takes_at_most_a_second():
    """A problem of the quick profile's size takes at most a second of processor time on one thread."""
    problem = pudle.make_dataset(
        "sparse_gaussian(n_samples=500, n_features=50, n_components=100)"
    ).problem()
    began = time.process_time()
    reference = pudle.reference(problem)
    took = time.process_time() - began
    assert reference.status == "certified"
    assert took <= 1.0


def test_every_kind_of_reference_has_its_target_a_bound_and_no_reason():
    for problem, target in [
        (sparse_problem("lasso"), "exact"),
        (sparse_problem("reconstruction"), "exact"),
        (sparse_problem(), "gstar"),
        (sparse_problem(), "gtilde"),
        (convolutional(), "exact"),
        (penalty_selection(), "exact"),
        (ridge_problem(), "exact"),
    ]:
        reference = pudle.reference(problem, target)
        assert math.isfinite(reference.bound)
        assert (reference.status, reference.target, reference.reason) == ("certified", target, "")


def test_a_penalty_cannot_be_selected_by_two_equal_columns():
    problem = penalty_selection()
    doubled = {
        name: torch.cat([getattr(problem, name)] * 2, 1) for name in ("design", "held_out_design")
    }
    reference = pudle.reference(dataclasses.replace(problem, **doubled))
    assert reference.status == "uncertified"
    assert reference.reason.startswith(
        "6 of 6 samples are not certified: 6 have a singular active Gram matrix"
    )


ZERO = (
    "the exact gradient is zero: relative errors have no meaning; lower the penalty or change the"
    " data"
)
HUGE = "the norm of the exact gradient exceeds float64: scale the observations and the penalty down"


@pytest.mark.parametrize(
    ("gradient", "error", "zero_codes", "uncertified", "status", "bound", "reason"),
    [
        ((3.0, 4.0), 0.5, 0.0, 0, "certified", 0.1, ""),
        ((3.0, 4.0), 0.5, 0.0, 1, "uncertified", 0.1, "as it was"),
        ((3.0, 4.0), 10.0, 0.0, 1, "uncertified", 2.0, "as it was"),
        ((3.0, 4.0), 5.0, 0.0, 0, "degenerate", 1.0, ZERO),
        (
            (0.0, 0.0),
            0.5,
            0.25,
            0,
            "degenerate",
            math.inf,
            ZERO.replace(":", " (25% of the codes are all zero):"),
        ),
        ((1e308, 1.7e308), 0.5, 0.0, 0, "uncertified", math.inf, HUGE),
        ((math.nan, 1.0), 0.5, 0.0, 0, "uncertified", math.inf, HUGE),
    ],
)
def test_the_status_follows_from_the_certificate_and_the_bound(
    gradient, error, zero_codes, uncertified, status, bound, reason
):
    certificate, codes = (
        pudle.Certificate(4, uncertified=uncertified, zero_codes=zero_codes),
        torch.zeros(4, 2),
    )
    given = "as it was" if uncertified else ""
    found = _finish(
        torch.tensor(gradient, dtype=torch.float64), error, codes, "exact", certificate, given
    )
    assert (found.status, found.bound, found.reason, found.target) == (
        status,
        bound,
        reason,
        "exact",
    )
    assert found.codes is codes and found.certificate is certificate
