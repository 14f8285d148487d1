"""What estimators, algorithms and problems refuse, in the words of the one text, and that a class
of one's own only has to say what it needs.
"""

import dataclasses
from dataclasses import dataclass

import pytest
import torch
from comparisons import refusal
from convolutions import replaced
from estimator_specs import estimate
from examples import penalty_selection, ridge_problem, sparse_problem

import pudle
from pudle.algorithms.requirements import DENSE_DICTIONARY, MINIMIZER, Requirement
from pudle.algorithms.unrolling import differentiable, gradients
from pudle.estimator import split


def fixed_point(step=lambda state, theta: 0.5 * state + theta.roll(1) * state.roll(1)):
    theta = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    return pudle.FixedPoint(theta, step, lambda state, _: state.square().sum(), 1 + theta)


class Derived(pudle.SparseCoding):
    per_sample = ()


SPARSE, EACH = sparse_problem(n=4), torch.full((18,), 0.2, dtype=torch.float64)
ISTA, ITERATION, SOLVER = pudle.Ista(), pudle.Iteration(), pudle.ActiveSet()
DERIVATIVE = "an algorithm whose layers are differentiated, not active_set: use an implicit"
STEP = "an inner objective, its Lipschitz constant and its proximal map, not a FixedPoint"
#: Estimator, problem and algorithm, and the refusal.
REFUSED = [
    ("backprop", SPARSE, SOLVER, f"backprop needs {DERIVATIVE}"),
    ("truncated(window=2)", SPARSE, SOLVER, f"truncated needs {DERIVATIVE}"),
    ("drmad", SPARSE, SOLVER, f"drmad needs {DERIVATIVE}"),
    (
        "noodl",
        ridge_problem(),
        ISTA,
        "noodl needs sparse coding in a dense dictionary, not Ridge: use alternating",
    ),
    (
        "nystrom",
        fixed_point(),
        ITERATION,
        "nystrom needs a symmetric matrix, which it approximates by columns, not the Jacobian of"
        " this step: use fixed_point, phantom or analytic",
    ),
    (
        "forward(max_jacobian_entries=1000)",
        SPARSE,
        ISTA,
        "forward needs a Jacobian of at most max_jacobian_entries=1000 entries, not 216 x 72 ="
        " 15552: raise that, use fewer samples, or use backprop or checkpointed, which compute the"
        " same",
    ),
    (
        "finite_difference(max_evaluations=101)",
        SPARSE,
        ISTA,
        "finite_difference needs at most max_evaluations=101 loss evaluations, not the 433 of 216"
        " directions of theta: raise that, give directions=50 or fewer for the projection on random"
        " ones, or use backprop, which computes the same without them",
    ),
    (
        "torchdeq_implicit",
        penalty_selection(),
        ISTA,
        "torchdeq_implicit needs SparseCoding itself, in a dense dictionary, not PenaltySelection:"
        " use fixed_point",
    ),
    (
        "torchopt_implicit",
        dataclasses.replace(SPARSE, penalty=EACH),
        ISTA,
        "torchopt_implicit needs one penalty for all atoms, not one for each: use"
        " conjugate_gradient",
    ),
    (
        "optimistix_implicit",
        SPARSE,
        pudle.Ista(thresholding="hard"),
        "optimistix_implicit needs soft thresholding, not hard: use analytic",
    ),
    (
        "jaxopt_unrolled",
        SPARSE,
        pudle.Fista(restart=True),
        "jaxopt_unrolled needs ISTA, or FISTA without restart, not fista(restart=True): use"
        " backprop",
    ),
    (
        "jaxopt_unrolled",
        dataclasses.replace(SPARSE, loss=lambda codes, theta: codes.sum()),
        ISTA,
        "jaxopt_unrolled needs a named loss, not a function: use backprop",
    ),
    (
        "analytic",
        ridge_problem(),
        SOLVER,
        "active_set needs an l1 norm and a dense matrix, not Ridge: use ista, or iteration on a"
        " FixedPoint",
    ),
    (
        "one_step",
        SPARSE,
        ITERATION,
        "iteration needs a FixedPoint, which brings its step, not SparseCoding: use ista or fista",
    ),
    ("alternating", fixed_point(), ISTA, f"a proximal gradient layer needs {STEP}"),
]


@pytest.mark.parametrize("spec, problem, algorithm, text", REFUSED)
def test_one_text_says_what_is_needed_what_was_found_and_what_to_use(
    spec, problem, algorithm, text
):
    assert refusal(
        lambda: estimate(spec, problem, algorithm, 3), pudle.UnsupportedProblem
    ).startswith(text)


@pytest.mark.parametrize(
    "call, text",
    [
        (lambda: SOLVER.run(differentiable(SPARSE)[0], 3), f"a derivative needs {DERIVATIVE}"),
        (lambda: ITERATION.step_size(SPARSE), "iteration needs a FixedPoint, which brings its"),
        (lambda: SOLVER.run(ridge_problem(), 3), "active_set needs an l1 norm and a dense matrix"),
        (lambda: fixed_point().lipschitz_constant, f"a proximal gradient layer needs {STEP}"),
        (
            lambda: next(split(replaced(SPARSE, Derived), 3)),
            "a batch needs samples that stand apart, not Derived: name the fields with one row per"
            " sample in its `per_sample`",
        ),
    ],
)
def test_the_text_is_that_of_algorithms_and_problems_as_well(call, text):
    assert refusal(call, pudle.UnsupportedProblem).startswith(text)


@dataclass(frozen=True)
class Claiming(pudle.GradientEstimator):
    """Runs the layers itself, and says no more than what it computes."""

    name = "claiming"
    computes = "unrolled"

    def estimate(self, problem, algorithm, depth):
        live, theta = differentiable(problem)
        with torch.enable_grad():
            state = algorithm.start(live)
            for _ in range(depth):
                state = algorithm.advance(live, state, algorithm.step_size(problem))
            (gradient,) = gradients(live.outer_loss(state.codes), (theta,))
        return pudle.Estimate(gradient, state.codes.detach())


class Decisions(pudle.Ista):
    """An algorithm of one's own whose layers have no derivative, which nothing shows."""

    name = "decisions"
    differentiable = False


class Swept(Claiming):
    computes = "direct"
    needs = (
        DENSE_DICTIONARY,
        MINIMIZER,
        Requirement("few atoms", lambda problem, _: "18" if problem.theta.shape[1] > 9 else None),
    )
    instead = "mine"

    def sweep(self, problem, algorithm, depths):
        return (self.estimate(problem, algorithm, depth) for depth in depths)


@pytest.mark.parametrize(
    "estimator, problem, algorithm, text",
    [
        (Claiming(), SPARSE, Decisions(), "claiming needs an algorithm whose layers are differ"),
        (Swept(), penalty_selection(), ISTA, "claiming needs sparse coding in a dense dictionary"),
        (Swept(), SPARSE, pudle.Ista(thresholding="hard"), "soft thresholding, not hard: use mine"),
        (Swept(), SPARSE, ISTA, "claiming needs few atoms, not 18: use mine"),
    ],
)
def test_the_base_refuses_for_a_class_that_overrides_estimate_and_sweep_alone(
    estimator, problem, algorithm, text
):
    for call in (
        lambda: estimator.estimate(problem, algorithm=algorithm, depth=3),
        lambda: list(estimator.sweep(problem, algorithm, depths=[3, 4])),
    ):
        assert text in refusal(call, pudle.UnsupportedProblem)
    assert not Claiming().estimate(SPARSE, ISTA, depth=3).gradient.isnan().any()
