"""The solvers `active_set` and `coordinate_descent`, against conditions of optimality in extended
precision and certified gradients.
"""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.oracles import in_numpy, tolerances
from support.problems.small_problems import arrays_of, penalty_selection, sparse_problem

import pudle
from pudle import kernel_choice
from pudle.algorithms import ActiveSet, CoordinateDescent
from pudle.algorithms.algorithm import run_layers
from pudle.bench.cases import PROFILES

#: Violation of the optimality conditions and rise of the objective that rounding explains, in
#: rounding units of the correlations' and of the objective's terms.
ROUNDINGS = 1000
#: Steps within which the small problems here end.
ENOUGH = 150


def run(choice, problem, depth=ENOUGH, keep=(), initial=None, solver=ActiveSet):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(kernel_choice.VARIABLE, choice)
        return solver(initial=initial).run(problem, depth, keep=keep)


def violations(problem, codes):
    """Violations of the optimality conditions in extended precision, relative to the terms of the
    correlations.
    """
    x, d = arrays_of(problem)
    ridge = np.sqrt(np.longdouble(problem.l2_penalty)) * np.eye(d.shape[1])
    x = np.concatenate([x, np.zeros_like(codes)], 1)
    d = np.concatenate([d.astype(np.longdouble), ridge])
    penalty, z = np.asarray(problem.penalty, float), codes.double().numpy()
    terms = np.abs(x) @ np.abs(d) + np.abs(z) @ np.abs(d.T) @ np.abs(d)
    violation = in_numpy.kkt_violation(x, d, penalty, z, nonnegative=problem.nonnegative)
    return violation / np.maximum(terms.max(1), np.finfo(float).tiny)


def objective(problem, codes):
    """The inner objective of each sample, in extended precision."""
    x, d = (array.astype(np.longdouble) for array in arrays_of(problem))
    z, penalty = codes.double().numpy(), np.asarray(problem.penalty, float)
    quadratic = ((x - z @ d.T) ** 2).sum(1) + problem.l2_penalty * (z**2).sum(1)
    return quadratic / 2 + (penalty * np.abs(z)).sum(1)


@st.composite
def problems(draw):
    """Problems of all shapes with equal, opposite and dependent atoms, and small penalties."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    n, m = draw(st.integers(1, 6)), draw(st.integers(1, 8))
    p = draw(st.sampled_from([1, m, 2 * m, 8 * m]))
    d = random.standard_normal((m, p)) * random.uniform(0.5, 2, p)
    if draw(st.booleans()):
        # Few values, so that correlations tie, supports change at once and systems are singular.
        d = random.integers(-1, 2, (m, p)) + 1e-3 * (np.arange(p) == 0)
    if draw(st.booleans()):
        copies = random.integers(0, p, p // 2)
        d[:, : p // 2] = d[:, copies] * random.choice([1, -1, 2], p // 2)
    x = random.standard_normal((n, m)) * 10 ** random.uniform(-3, 3)
    x[0] *= draw(st.booleans())
    largest = max(np.abs(x @ d).max(), 1e-6)
    penalty = largest * 10 ** random.uniform(-2, 0)
    if draw(st.booleans()):
        penalty = torch.tensor(penalty * random.uniform(0.5, 2, p))
    problem = pudle.SparseCoding(
        observations=x,
        dictionary=d if d.any() else d + 1.0,
        penalty=penalty,
        nonnegative=draw(st.booleans()),
        l2_penalty=draw(st.sampled_from([0.0, 0.0, 0.3])),
    )
    initial = None
    if draw(st.booleans()):
        initial = torch.tensor(random.standard_normal((n, p)) * (random.random((n, p)) < 0.5))
        initial *= np.abs(x).max()
    return problem, initial


def in_precision(dtype, problem, initial):
    penalty = problem.penalty
    changes = {
        "observations": problem.observations.to(dtype),
        "dictionary": problem.theta.to(dtype),
    }
    changes["penalty"] = penalty.to(dtype) if isinstance(penalty, torch.Tensor) else penalty
    return dataclasses.replace(problem, **changes), None if initial is None else initial.to(dtype)


@pytest.mark.parametrize("choice", kernel_choice.CHOICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@settings(max_examples=40)
@given(drawn=problems())
def test_it_ends_at_the_minimizer_and_the_objective_never_rises(choice, dtype, drawn):
    problem, initial = in_precision(dtype, *drawn)
    steps = run(choice, problem, ENOUGH, range(ENOUGH), initial)
    rounding = ROUNDINGS * torch.finfo(dtype).eps
    assert violations(problem, steps.codes).max() <= rounding
    # Codes outside the orthant begin on its border.
    start = (initial.clamp(min=0) if problem.nonnegative else initial) if initial is not None else 0
    before = objective(problem, steps.at(0))
    assert torch.equal(steps.at(0), torch.zeros_like(steps.codes) + start)
    scale = before + (problem.observations.double().numpy() ** 2).sum(1)
    for step in range(1, ENOUGH + 1):
        after = objective(problem, steps.at(step))
        assert (after <= before + rounding * scale).all(), step
        before = after


# In the last one an inverse that gains and loses atoms is spoiled by rounding.
@pytest.mark.parametrize("shape", [(), (200, 30, 60), (500, 6, 12)])
@pytest.mark.parametrize("solver", [ActiveSet, CoordinateDescent])
def test_the_kernel_takes_the_steps_of_the_torch_path(solver, shape, dtype):
    double = shape[:1] != (200,) or dtype == torch.float64
    sizes = dict(zip("nmp", shape, strict=False), dtype=torch.float64 if double else dtype)
    problem = sparse_problem(**sizes) if shape else penalty_selection()
    keep, tolerance = range(31), tolerances.SAME_ARITHMETIC if double else 1e-4
    initial = torch.roll(run("torch", problem, 8).codes, 1, 0)
    for start in (None, initial):
        mine, plain = (
            run(choice, problem, 30, keep, start, solver) for choice in ("numba", "torch")
        )
        for step in keep:
            one, other = mine.states[step], plain.states[step]
            assert one.iteration == other.iteration == step
            assert (one.codes - other.codes).abs().max() <= tolerance * other.codes.abs().max()
    # A run goes on from any of its states.
    later = run_layers(problem, solver(), mine.states[7], 5, (), 1.0)
    assert torch.allclose(later[5].codes, mine.at(12), rtol=0, atol=1e-5)


def test_after_its_last_step_no_layer_is_run(monkeypatch):
    """On the torch path, where each would look at all samples again."""
    problem, advance, advanced = sparse_problem("lasso"), ActiveSet.advance, []

    def counted(*given):
        advanced.append(given)
        return advance(*given)

    monkeypatch.setattr(ActiveSet, "advance", counted)
    states = run("torch", problem, 10**6, keep=(0, 1, ENOUGH, 2 * ENOUGH)).states
    assert 1 < len(advanced) < ENOUGH
    assert {number: state.iteration for number, state in states.items()} == {
        number: number for number in (0, 1, ENOUGH, 2 * ENOUGH, 10**6)
    }
    state = ActiveSet().start(problem)
    for number in range(ENOUGH):
        if number in states:
            assert torch.equal(states[number].codes, state.codes)
        state = advance(ActiveSet(), problem, state, 1.0)
    for number in (ENOUGH, 2 * ENOUGH, 10**6):
        assert torch.equal(states[number].codes, state.codes)


def test_it_needs_no_step():
    problem, solver = sparse_problem(), ActiveSet()
    pudle.make_estimator("analytic").estimate(problem, solver, 9)
    assert "lipschitz_constant" not in vars(problem)


QUICK = {
    (case.dataset, case.loss)
    for case in PROFILES["quick"].cases
    if case.name.startswith(("sparse_gaussian-", "bernoulli_gaussian-", "image_patches-"))
}


@pytest.mark.parametrize("dataset, loss", sorted(QUICK))
def test_the_implicit_gradient_is_exact(dataset, loss):
    problem = pudle.make_dataset(dataset).problem(loss)
    reference = pudle.reference(problem)
    estimates = pudle.make_estimator("analytic").sweep(problem, ActiveSet(), [200, 1])
    exact, early = (pudle.score(each, reference) for each in estimates)
    assert reference.status == "certified"
    assert exact.relative_error == reference.bound and exact.support_error == 0
    assert early.relative_error > 0.1


def test_near_a_solution_few_steps_remain():
    """From the last codes, a dictionary that moves by 0.2 % needs little more than one step."""
    problem = pudle.make_dataset("sparse_gaussian(n_samples=300)").problem()
    signs = np.random.default_rng(0).choice([-1, 1], problem.dictionary.shape)
    moved = problem.dictionary * (1 + 0.002 * torch.tensor(signs))
    problem, initial = dataclasses.replace(problem, dictionary=moved), ActiveSet().run(problem, 60)
    steps = ActiveSet(initial=initial.codes).run(problem, 20, keep=range(21))
    changed = [(steps.at(step + 1) != steps.at(step)).any(1).double().mean() for step in range(20)]
    assert changed[0] == 1 and sum(changed) < 1.3 and changed[-1] == 0


@settings(max_examples=20)
@given(drawn=problems())
def test_coordinate_descent_converges(drawn):
    problem, initial = drawn
    solver = pudle.make_algorithm("coordinate_descent")
    steps = solver.run(problem, 30, keep=range(31), initial=initial)
    values = np.array([objective(problem, steps.at(step)) for step in range(31)])
    assert (np.diff(values, axis=0) <= 1e-12 * values[0]).all()
    best = objective(problem, run("numba", problem).codes)
    assert (values >= best - 1e-12 * values[0]).all()
    problem = dataclasses.replace(problem, l2_penalty=problem.lipschitz_constant)
    assert violations(problem, solver.run(problem, 100).codes).max() < 1e-9


@pytest.mark.parametrize(
    "solver, depths", [(ActiveSet, (0, 3, ENOUGH)), (CoordinateDescent, (0, 3000))]
)
def test_samples_that_are_not_solved_are_counted(solver, depths):
    """Against the codes of the certified reference."""
    problem = sparse_problem(penalty=0.05)
    truth, counts = pudle.reference(problem), []
    for depth in depths:
        estimate = pudle.make_estimator("analytic").estimate(problem, solver(), depth)
        wrong = int(((estimate.codes - truth.codes).abs().amax(1) > 1e-5).sum())
        score = pudle.score(estimate, truth)
        counts.append(estimate.diagnostics["unfinished"])
        assert counts[-1] == score.unfinished == wrong
        assert (f"{wrong} samples unfinished" in repr(score)) == (wrong > 0)
    assert counts[0] == len(truth.codes) > counts[-1] == 0
