"""One Newton step before the implicit formula: exact on the right support, and never a step that
cannot be trusted.
"""

import dataclasses

import numpy as np
import pytest
import torch
from support.estimators.estimator_specs import estimate
from support.oracles import in_numpy, tolerances
from support.oracles.comparisons import relative
from support.problems.small_problems import arrays_of, elastic_net, sparse_problem

import pudle

KEPT = ("kept_flipped", "kept_singular", "kept_rising")


def kept(result):
    return [result.diagnostics[name] for name in KEPT]


@pytest.mark.parametrize("nonnegative", [False, True], ids=["signed", "nonnegative"])
def test_exact_from_the_depth_at_which_signs_are_right(loss, nonnegative):
    problem, algorithm = sparse_problem(loss, nonnegative=nonnegative), pudle.Ista()
    x, d = arrays_of(problem)
    signs = np.sign(in_numpy.exact_codes(x, d, problem.penalty, nonnegative=nonnegative))
    codes = algorithm.run(problem, 2000, keep=range(2000))
    depth = next(t for t in range(2000) if (np.sign(codes.at(t).numpy()) == signs).all())
    reference = pudle.reference(problem)
    scores = {
        name: pudle.score(estimate(name, problem, algorithm, depth), reference)
        for name in ("analytic", "polished")
    }
    assert scores["polished"].relative_error < tolerances.CONVERGED
    assert scores["analytic"].relative_error > 1e2 * tolerances.CONVERGED
    # What makes it exact are the better codes: those of the estimate are still z_T.
    assert scores["polished"].code_error == scores["analytic"].code_error > 0


@pytest.mark.parametrize(
    "problem",
    [
        elastic_net(loss="reconstruction"),
        pudle.make_dataset("penalty_selection").problem("held_out"),
        pudle.make_dataset("convolutional(n_samples=2)").problem("reconstruction"),
    ],
    ids=["elastic net", "penalty", "convolutional"],
)
def test_exact_on_other_quadratic_problems(problem):
    reference = pudle.reference(problem)
    # Signs of the minimizer at codes a tenth away from it.
    algorithm = pudle.Ista(initial=0.9 * reference.codes)
    analytic, polished = (
        estimate(name, problem, algorithm, 0) for name in ("analytic", "polished")
    )
    assert pudle.score(polished, reference).relative_error < tolerances.CONVERGED
    assert pudle.score(analytic, reference).relative_error > 1e-3
    assert kept(polished) == [0, 0, 0]


def test_each_sample_keeps_its_codes_where_an_entry_would_change_its_sign(loss):
    """The gradient is the mean of an exact one and of that of `analytic`, where a sign is wrong."""
    problem = sparse_problem(loss, n=2)
    initial = 0.9 * pudle.reference(problem).codes
    initial[1] *= -1
    first, second = (
        dataclasses.replace(
            problem, observations=problem.observations[i : i + 1], generating_codes=None
        )
        for i in range(2)
    )
    result = estimate("polished", problem, pudle.Ista(initial=initial), 0)
    unchanged = estimate("analytic", second, pudle.Ista(initial=initial[1:]), 0).gradient
    expected = (pudle.reference(first).gradient + unchanged) / 2
    assert relative(result.gradient, expected) < tolerances.CONVERGED
    assert kept(result) == [1, 0, 0]


def test_a_singular_system_without_a_solution_keeps_the_codes():
    """Where an atom stands twice, with codes of opposite signs, the penalty pulls them apart and F
    cannot vanish.
    """
    atom = torch.tensor([[0.6, 0.6], [0.8, 0.8]], dtype=torch.float64)
    problem = pudle.SparseCoding(
        observations=torch.tensor([[3.0, 1.0], [1.0, 2.0]], dtype=torch.float64),
        dictionary=atom,
        penalty=0.2,
    )
    initial = torch.tensor([[3.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    result = estimate("polished", problem, pudle.Ista(initial=initial), 0)
    assert kept(result) == [0, 1, 0]


def test_a_step_that_leads_away_is_not_taken():
    """Newton's method on ``atan(z) = 0`` diverges from beyond 1.39, and converges from below."""
    for start, count in ((2.0, 1), (1.0, 0)):
        problem = pudle.FixedPoint(
            theta=torch.tensor([0.0], dtype=torch.float64),
            step=lambda state, theta: state - (state - theta).atan(),
            loss=lambda state, theta: state.square().sum(),
            initial=torch.tensor([start], dtype=torch.float64),
        )
        result = estimate("polished", problem, pudle.Iteration(), 0)
        after = start if count else start - (1 + start**2) * np.arctan(start)
        assert kept(result) == [0, 0, count]
        # dz/dtheta is one.
        assert float(result.gradient) == pytest.approx(2 * after, rel=tolerances.CLOSED_FORM)
