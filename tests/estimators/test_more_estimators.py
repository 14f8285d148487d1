"""What the further estimators promise beyond the contract: agreement among themselves, convergence, budgets, costs."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from examples import ridge_problem, sparse_problem

import pudle
from pudle import streams

#: The same derivative by the same float64 operations in another order.
SAME = 1e-12
#: Conjugate gradients and an eigendecomposition, on active systems of condition numbers below 1e3.
SOLVED = 1e-10
#: Central differences at their default step: rounding of order eps / step = 1e-10, times the square root of the entries.
DIFFERENCES = 1e-6
#: A window that is one layer off must show, where the agreement is to twelve digits.
VISIBLE = 1e-4

ALGORITHMS = {"ista": pudle.Ista(), "fista": pudle.Fista()}
DEPTH = 30
ALIASES = {
    "one_step": ("jfb", "jacobian_free", "phantom"),
    "fixed_point(terms=3)": ("neumann(terms=3)", "aid_fp(terms=3)"),
    "conjugate_gradient": ("aid_cg",),
    "forward": ("piggyback", "iterdiff"),
    "checkpointed": ("recursive_checkpointing",),
    "finite_difference": ("numerical",),
    "spsa": ("es", "antithetic", "zero_order"),
}


@pytest.fixture(params=sorted(ALGORITHMS))
def algorithm(request) -> pudle.Algorithm:
    return ALGORITHMS[request.param]


def estimate(spec: str, problem, algorithm, depth: int = DEPTH) -> pudle.Estimate:
    return pudle.make_estimator(spec).estimate(problem, algorithm, depth)


def relative(mine: torch.Tensor, truth: torch.Tensor) -> float:
    return float((mine - truth).norm() / truth.norm())


@pytest.mark.parametrize("spec", ALIASES)
def test_aliases_resolve(spec):
    for alias in ALIASES[spec]:
        assert pudle.make_estimator(alias) == pudle.make_estimator(spec)


# --- agreement


@pytest.mark.parametrize("depth", [1, DEPTH])
def test_one_step_is_a_window_of_one(problem, algorithm, depth):
    mine, truth = (estimate(spec, problem, algorithm, depth) for spec in ("one_step", "truncated(window=1)"))
    assert relative(mine.gradient, truth.gradient) < SAME
    assert relative(mine.gradient, estimate("alternating", problem, algorithm, depth).gradient) > VISIBLE


@pytest.mark.parametrize(
    "spec", [f"truncated(window={DEPTH})", "truncated(window=1000)", "forward", "checkpointed", "checkpointed(segments=7)"]
)
def test_the_unrolled_derivative_is_one(spec, problem, algorithm):
    truth = estimate("backprop", problem, algorithm).gradient
    assert relative(estimate(spec, problem, algorithm).gradient, truth) < SAME
    assert relative(estimate(f"truncated(window={DEPTH - 1})", problem, algorithm).gradient, truth) > SAME


@pytest.mark.parametrize("segments", [None, 1, 4, DEPTH, 1000])
def test_checkpointed_is_backprop_to_the_bit(segments, problem, algorithm):
    mine = estimate(f"checkpointed(segments={segments})", problem, algorithm)
    assert torch.equal(mine.gradient, estimate("backprop", problem, algorithm).gradient)


def test_checkpointed_works_from_a_state_with_momentum(problem):
    """Momentum and extrapolated point cross the segment bounds: dropping either would turn FISTA into ISTA there."""
    accelerated, plain = (estimate("checkpointed(segments=5)", problem, ALGORITHMS[name]) for name in ("fista", "ista"))
    assert relative(accelerated.gradient, plain.gradient) > VISIBLE


@pytest.mark.parametrize("terms", [1, 2, 7, 20, 50])
def test_neumann_terms_are_layers_at_a_converged_code(terms):
    """On the reconstruction loss, where the correction does not vanish at convergence."""
    problem, depth = sparse_problem("reconstruction"), 4000
    windowed = estimate(f"truncated(window={terms})", problem, pudle.Ista(), depth).gradient
    assert relative(estimate(f"fixed_point(terms={terms})", problem, pudle.Ista(), depth).gradient, windowed) < SAME
    for other in {max(terms - 1, 1), terms + 1} - {terms}:
        off = estimate(f"fixed_point(terms={other})", problem, pudle.Ista(), depth).gradient
        assert relative(off, windowed) > VISIBLE


def test_fixed_point_uses_the_plain_layer_for_an_accelerated_algorithm():
    problem = sparse_problem("reconstruction")
    plain, accelerated = (estimate("fixed_point(terms=20)", problem, each, 4000).gradient for each in ALGORITHMS.values())
    assert relative(accelerated, plain) < SOLVED


# --- conjugate gradients


class Matrixless(pudle.SparseCoding):
    """Sparse coding that offers no matrix and no solver."""

    @property
    def gram(self):
        raise AssertionError("the Gram matrix was asked for")

    def solve_active(self, codes, right_hand_side):
        raise AssertionError("the exact solver was asked for")


def test_conjugate_gradient_converges_to_analytic(problem, algorithm):
    truth = estimate("analytic", problem, algorithm, 200).gradient
    errors = [
        relative(estimate(f"conjugate_gradient(iterations={count})", problem, algorithm, 200).gradient, truth)
        for count in (1, 2, 100)
    ]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < SOLVED


def test_conjugate_gradient_needs_no_matrix(problem):
    fields = {name: getattr(problem, name) for name in ("observations", "dictionary", "penalty", "loss")}
    mine = estimate("conjugate_gradient", Matrixless(**fields), pudle.Ista(), 200)
    assert relative(mine.gradient, estimate("analytic", problem, pudle.Ista(), 200).gradient) < SOLVED


def test_conjugate_gradient_says_how_far_it_came(problem):
    diagnostics = estimate("conjugate_gradient", problem, pudle.Ista(), 200).diagnostics
    assert 1 < diagnostics["iterations"] < 30
    assert diagnostics["unconverged"] == 0
    assert diagnostics["largest_relative_residual"] < SOLVED
    stopped = estimate("conjugate_gradient(iterations=2)", problem, pudle.Ista(), 200).diagnostics
    assert stopped["iterations"] == 2
    assert stopped["unconverged"] > 0
    assert stopped["largest_relative_residual"] > 1e-3


def test_conjugate_gradient_survives_singular_systems():
    """18 atoms active in 12 dimensions, and a right-hand side outside the range: no solution, and no garbage."""
    problem = sparse_problem("lasso", penalty=1e-4)
    mine = estimate("conjugate_gradient(iterations=1000)", problem, pudle.Ista(), 1)
    assert estimate("analytic", problem, pudle.Ista(), 1).diagnostics["singular"] > 0
    assert torch.isfinite(mine.gradient).all()
    assert mine.diagnostics["unconverged"] > 0
    assert mine.diagnostics["iterations"] < 100, "a sample without curvature stops"
    # The minimum-norm solution bounds what a sound iterate can be; an unguarded one is off by powers of ten.
    assert mine.gradient.norm() < 2 * estimate("analytic", problem, pudle.Ista(), 1).gradient.norm()


# --- loss values alone


def test_finite_difference_is_the_unrolled_derivative(problem, algorithm):
    mine = estimate("finite_difference", problem, algorithm)
    assert relative(mine.gradient, estimate("backprop", problem, algorithm).gradient) < DIFFERENCES


def test_finite_difference_along_random_directions_is_a_scaled_projection(problem):
    mine = estimate("finite_difference(directions=10, seed=3)", problem, pudle.Ista()).gradient.reshape(-1)
    truth = estimate("backprop", problem, pudle.Ista()).gradient.reshape(-1)
    draws = streams.generator(3, "estimator finite_difference").standard_normal((truth.numel(), 10))
    basis = torch.linalg.qr(torch.as_tensor(draws)).Q
    assert relative(mine, truth.numel() / 10 * basis @ (basis.T @ truth)) < DIFFERENCES


def test_finite_difference_claims_what_it_computes():
    assert pudle.make_estimator("finite_difference").computes == "unrolled"
    assert pudle.make_estimator("finite_difference(directions=10)").computes == "stochastic"
    assert pudle.list_estimators()["finite_difference"].computes == "unrolled"


def test_finite_difference_takes_all_coordinates_where_more_directions_are_asked_for(ridge):
    mine, all_of_them = (estimate(spec, ridge, pudle.Ista()) for spec in ("numerical(directions=5)", "numerical"))
    assert torch.equal(mine.gradient, all_of_them.gradient)
    assert mine.diagnostics["directions"] == 1


def test_finite_difference_tells_of_kinks(ridge):
    """One atom, one observation exactly at the threshold: slopes 0 and -x^2 on either side, half their distance off."""
    level = 0.2
    kinked = pudle.SparseCoding(
        observations=torch.tensor([[level]], dtype=torch.float64),
        dictionary=torch.ones(1, 1, dtype=torch.float64),
        penalty=level,
        loss="reconstruction",
    )
    mine = estimate("finite_difference", kinked, pudle.Ista(), 1)
    assert mine.diagnostics["asymmetry"] == pytest.approx(level**2 / 2, rel=1e-3)
    assert float(mine.gradient) == pytest.approx(-(level**2) / 2, rel=1e-3)
    assert estimate("finite_difference", ridge, pudle.Ista()).diagnostics["asymmetry"] < 1e-5


@pytest.mark.parametrize("scale", [1e-4, 1e-3, 1e-2])
def test_spsa_is_unbiased_along_the_gradient(problem, scale):
    """2000 samples in 20 batches, whose spread gives the standard error; several scales tell a lost 1/scale."""
    truth = estimate("backprop", problem, pudle.Ista(), 10).gradient
    unit = truth / truth.norm()
    batches = torch.stack(
        [
            (estimate(f"spsa(samples=100, scale={scale}, seed={seed})", problem, pudle.Ista(), 10).gradient * unit).sum()
            for seed in range(20)
        ]
    )
    standard_error = batches.std() / len(batches) ** 0.5
    assert standard_error < 0.06 * truth.norm(), "the check has power"
    assert abs(batches.mean() - truth.norm()) < 4 * standard_error


def test_spsa_states_its_own_error(problem):
    mine = estimate("spsa(samples=200)", problem, pudle.Ista(), 10)
    error = (mine.gradient - estimate("backprop", problem, pudle.Ista(), 10).gradient).norm()
    assert 0.7 < float(error) / mine.diagnostics["standard_error"] < 1.4
    assert "standard_error" not in estimate("spsa(samples=1)", problem, pudle.Ista(), 2).diagnostics


def test_spsa_draws_from_its_own_stream(problem):
    mine = estimate("spsa(samples=1, seed=4)", problem, pudle.Ista(), 10).gradient
    draw = torch.as_tensor(streams.generator(4, "estimator spsa").standard_normal(tuple(mine.shape)))
    assert abs(float(torch.cosine_similarity(mine.reshape(-1), draw.reshape(-1), dim=0))) == pytest.approx(1, abs=SAME)


# --- costs


@dataclass(frozen=True, eq=False, kw_only=True)
class Counting(pudle.SparseCoding):
    """Sparse coding that notes every proximal map: one per layer."""

    calls: list = field(default_factory=list)

    def prox(self, values, step, thresholding, iteration):
        self.calls.append(iteration)
        return super().prox(values, step, thresholding, iteration)


@pytest.mark.parametrize(
    "spec",
    [
        *("one_step", "fixed_point(terms=9)", "conjugate_gradient", "forward", "checkpointed", "finite_difference"),
        *("finite_difference(directions=3)", "spsa(samples=3)"),
    ],
)
def test_layers_are_counted_right(spec, algorithm):
    plain = sparse_problem()
    problem = Counting(observations=plain.observations, dictionary=plain.dictionary, penalty=plain.penalty)
    assert estimate(spec, problem, algorithm, 7).diagnostics["layers"] == len(problem.calls)


def test_checkpointed_stores_less(problem, algorithm):
    """Tensors alive for the backward pass at any one time, against backprop's."""

    class Stored:
        alive = peak = 0

        def __init__(self, tensor):
            self.tensor = tensor
            Stored.alive += 1
            Stored.peak = max(Stored.peak, Stored.alive)

        def __del__(self):
            Stored.alive -= 1

    peaks = []
    for spec in ("backprop", "checkpointed"):
        Stored.alive = Stored.peak = 0
        with torch.autograd.graph.saved_tensors_hooks(Stored, lambda stored: stored.tensor):
            estimate(spec, problem, algorithm, 64)
        peaks.append(Stored.peak)
    assert peaks[1] < peaks[0] / 4
    assert estimate("checkpointed", problem, algorithm, 64).diagnostics["stored_states"] == 16


def test_forward_reads_every_depth_off_one_pass(problem, algorithm):
    depths = [5, 0, 17]
    for depth, mine in zip(depths, pudle.make_estimator("forward").sweep(problem, algorithm, depths), strict=True):
        truth = estimate("backprop", problem, algorithm, depth).gradient
        assert (mine.gradient - truth).norm() <= SAME * truth.norm()


# --- refusals


def test_forward_refuses_a_jacobian_beyond_its_budget():
    with pytest.raises(pudle.UnsupportedProblem) as refusal:
        estimate("forward(max_jacobian_entries=1000)", sparse_problem(), pudle.Ista())
    assert str(refusal.value) == (
        "forward carries a Jacobian of 216 x 720 = 155520 entries here, above max_jacobian_entries=1000: raise that, use "
        "fewer samples, or use backprop or checkpointed, which compute the same"
    )


def test_finite_difference_refuses_too_many_evaluations():
    with pytest.raises(pudle.UnsupportedProblem) as refusal:
        estimate("finite_difference(max_evaluations=101)", sparse_problem(), pudle.Ista())
    assert str(refusal.value) == (
        "finite_difference needs 433 loss evaluations for 216 directions of theta, above max_evaluations=101: raise that, "
        "give directions=50 or fewer for the projection on random ones, or use backprop, which computes the same without "
        "them"
    )
    accepted = estimate("finite_difference(max_evaluations=101, directions=50)", sparse_problem(), pudle.Ista(), 2)
    assert accepted.diagnostics["directions"] == 50
    assert estimate("finite_difference(max_evaluations=3)", ridge_problem(), pudle.Ista(), 2).gradient.shape == ()


@pytest.mark.parametrize(
    "spec, text",
    [
        ("fixed_point(terms=0)", "terms=0 is too small: give a whole number >= 1"),
        ("conjugate_gradient(iterations=0)", "iterations=0 is too small: give a whole number >= 1"),
        ("conjugate_gradient(rtol=0)", "rtol=0 is out of range: give a number > 0"),
        ("forward(max_jacobian_entries=0)", "max_jacobian_entries=0 is too small: give a whole number >= 1"),
        ("checkpointed(segments=0)", "segments=0 is too small: give a whole number >= 1"),
        ("finite_difference(step=-1)", "step=-1 is out of range: give a number > 0"),
        ("finite_difference(max_evaluations=2)", "max_evaluations=2 is too small: give a whole number >= 3"),
        ("finite_difference(directions=0)", "directions=0 is too small: give a whole number >= 1"),
        ("spsa(samples=0)", "samples=0 is too small: give a whole number >= 1"),
        ("spsa(scale=0.0)", "scale=0.0 is out of range: give a number > 0"),
        ("spsa(seed=-1)", "seed=-1 is too small: give a whole number >= 0"),
    ],
)
def test_useless_options_are_refused(spec, text):
    with pytest.raises(pudle.SpecError) as failure:
        pudle.make_estimator(spec)
    assert str(failure.value) == f"spec {spec!r}: {text}"
