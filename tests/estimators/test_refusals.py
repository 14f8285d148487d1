"""What estimators, algorithms and problems refuse, in the words of the one text, and that a class
of one's own only has to say what it needs.
"""

import dataclasses
import functools
import re
from dataclasses import dataclass

import pytest
import torch
from support.estimators.estimator_specs import estimate
from support.oracles.comparisons import refusal
from support.problems.convolutions import replaced
from support.problems.small_problems import penalty_selection, ridge_problem, sparse_problem

import pudle
from pudle.algorithms.requirements import DENSE_DICTIONARY, MINIMIZER, Need
from pudle.algorithms.unrolling import differentiable, gradients
from pudle.estimator import split


def fixed_point():
    theta = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    return pudle.FixedPoint(
        theta,
        lambda state, theta: 0.5 * state + theta.roll(1) * state.roll(1),
        lambda state, _: state.square().sum(),
        1 + theta,
    )


class Derived(pudle.SparseCoding):
    per_sample = ()


SPARSE, RIDGE, MOVING = sparse_problem(n=4), ridge_problem(), fixed_point()
EACH = dataclasses.replace(SPARSE, penalty=SPARSE.dictionary.new_full((18,), 0.2))
OWN = dataclasses.replace(SPARSE, loss=lambda codes, theta: codes.sum())
ISTA, ITERATION, SOLVER = pudle.Ista(), pudle.Iteration(), pudle.ActiveSet()
SMOOTH, NEWTON = pudle.make_dataset("quadratic(n_inner=3)").problem(), pudle.NewtonCg()
RESTART, HARD = pudle.Fista(restart=True), pudle.Ista(thresholding="hard")
#: Estimator, problem, algorithm, and a part of the refusal.
REFUSED = [
    ("backprop", SPARSE, SOLVER, "whose layers are differentiated, not active_set: use an"),
    ("one_step", SPARSE, SOLVER, "estimator such as analytic, or the algorithm ista"),
    ("drmad", SPARSE, SOLVER, "drmad needs an algorithm whose layers are differentiated, not"),
    ("backprop", SMOOTH, NEWTON, "an algorithm whose layers are differentiated, not newton_cg"),
    ("noodl", RIDGE, ISTA, "sparse coding in a dense dictionary, not Ridge: use alternating"),
    ("nystrom", MOVING, ITERATION, "by columns, not the Jacobian of this step: use fixed_point,"),
    ("forward(max_jacobian_entries=9)", SPARSE, ISTA, "=9 entries, not 216 x 72 = 15552: raise"),
    ("finite_difference(max_evaluations=101)", SPARSE, ISTA, "not the 432 of 216 directions of th"),
    ("finite_difference(max_evaluations=101)", SPARSE, ISTA, "give directions=50 or fewer for the"),
    ("torchdeq_implicit", RIDGE, ISTA, "SparseCoding itself, in a dense dictionary, not Ridge:"),
    ("torchopt_implicit", EACH, ISTA, "one penalty for all atoms, not one for each: use"),
    ("optimistix_implicit", SPARSE, HARD, "needs soft thresholding, not hard: use analytic"),
    ("jaxopt_unrolled", SPARSE, RESTART, "FISTA without restart, not fista(restart=True): use"),
    ("jaxopt_unrolled", OWN, ISTA, "needs a named loss, not a function: use backprop"),
    ("analytic", RIDGE, SOLVER, "an l1 norm and a dense matrix, not Ridge: use ista, or"),
    ("one_step", SPARSE, ITERATION, "a FixedPoint, which brings its step, not SparseCoding: use"),
    ("alternating", MOVING, ISTA, "an inner objective, its Lipschitz constant and its proximal"),
    (
        "a_posteriori",
        MOVING,
        ITERATION,
        "a StronglyConvex, whose objective is smooth, not Fixed",
    ),
    ("first_order", RIDGE, ISTA, "smooth, not Ridge: use analytic, or finite_difference"),
    ("alternating", MOVING, ISTA, "not a FixedPoint, which is given by its step: run it with"),
]
#: The same of algorithms and problems alone.
CALLS = [
    (lambda: SOLVER.run(differentiable(SPARSE)[0], 3), "a derivative needs an algorithm whose lay"),
    (lambda: ITERATION.step_size(SPARSE), "iteration needs a FixedPoint, which brings its step, n"),
    (
        lambda: SOLVER.run(RIDGE, 3),
        "active_set needs an l1 norm and a dense matrix, not Ridge: use",
    ),
    *(
        (
            lambda cls=cls: cls().run(SPARSE, 1),
            "a StronglyConvex, whose objective is smooth, not Sp",
        )
        for cls in (pudle.GradientDescent, pudle.Accelerated, pudle.NewtonCg)
    ),
    (lambda: MOVING.lipschitz_constant, "a proximal gradient layer needs an inner objective, its"),
    (
        lambda: next(split(replaced(SPARSE, Derived), 3)),
        "a batch needs samples that stand apart, n",
    ),
]


@pytest.mark.parametrize(
    "call, text",
    [(functools.partial(estimate, *each[:3], 3), each[3]) for each in REFUSED] + CALLS,
)
def test_one_text_says_what_is_needed_what_was_found_and_what_to_use(call, text):
    refused = refusal(call, pudle.UnsupportedProblem)
    assert text in refused and re.fullmatch(".+ needs .+, not .+: .+", refused)


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
        Need("few atoms", lambda problem, _: "18" if problem.theta.shape[1] > 9 else None),
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
