"""Inner algorithms, against an implementation in numpy."""

from __future__ import annotations

import dataclasses

import numpy as np
import oracles
import pytest
import tolerances
import torch
from comparisons import relative
from examples import PENALTY, arrays_of, largest_eigenvalue, ridge_problem, sparse_problem

import pudle


@pytest.fixture(params=[pudle.Ista, pudle.Fista], ids=["ista", "fista"])
def make(request):
    return request.param


@pytest.mark.parametrize("nonnegative", [False, True], ids=["two-sided", "nonnegative"])
@pytest.mark.parametrize("depth", [1, 2, 3, 25])
@pytest.mark.parametrize("step", [None, 0.05])
def test_codes_against_numpy(make, depth, step, nonnegative):
    problem = sparse_problem(nonnegative=nonnegative)
    x, d = arrays_of(problem)
    size = 1 / largest_eigenvalue(d) if step is None else step
    truth, _, _ = oracles.unroll(
        x, d, PENALTY, size, depth, accelerated=make is pudle.Fista, nonnegative=nonnegative
    )
    codes = make(step=step).run(problem, depth).codes
    assert relative(codes, truth) < tolerances.SAME_ARITHMETIC
    assert np.array_equal(codes.numpy() == 0, truth == 0)


def test_accelerated_codes_are_those_of_the_proximal_map():
    """The codes are never the extrapolated point, which is not zero where an entry has just become
    zero.
    """
    problem = sparse_problem()
    x, d = arrays_of(problem)
    codes, point, _ = oracles.unroll(x, d, PENALTY, 1 / largest_eigenvalue(d), 6, accelerated=True)
    mine = pudle.Fista().run(problem, 6).codes
    assert relative(mine, codes) < tolerances.SAME_ARITHMETIC
    assert relative(mine, point) > 1e-3
    assert ((point != 0) & (codes == 0)).any()
    assert np.array_equal(mine.numpy() == 0, codes == 0)


def test_ridge_steps_are_plain_gradient_steps():
    problem = ridge_problem()
    x, d, c = (
        tensor.numpy() for tensor in (problem.observations, problem.dictionary, problem.weights)
    )
    oracle = oracles.RidgeOracle(x, d, problem.strength, c, 1 / problem.lipschitz_constant)
    for depth in (1, 10, 100):
        assert (
            relative(pudle.Ista().run(problem, depth).codes, oracle.codes(depth))
            < tolerances.SAME_ARITHMETIC
        )


def test_default_step_is_one_over_the_largest_eigenvalue(make):
    problem = sparse_problem()
    _, d = arrays_of(problem)
    assert make().step_size(problem) == pytest.approx(1 / np.linalg.norm(d, 2) ** 2, rel=1e-12)
    frobenius = 1 / np.linalg.norm(d) ** 2
    assert make().step_size(problem) > 1.1 * frobenius
    assert make(step=0.05).step_size(problem) == 0.05


def test_kept_iterations(make):
    problem = sparse_problem()
    trajectory = make().run(problem, 12, keep=[0, 3, 7])
    assert trajectory.depth == 12
    assert torch.equal(trajectory.at(12), trajectory.codes)
    assert not trajectory.at(0).any()
    for depth in (3, 7):
        assert torch.equal(trajectory.at(depth), make().run(problem, depth).codes)


def test_keeping_changes_nothing(make):
    problem = sparse_problem()
    assert torch.equal(make().run(problem, 9, keep=range(10)).codes, make().run(problem, 9).codes)


def test_depth_zero_returns_the_start(make):
    problem = sparse_problem()
    assert not make().run(problem, 0).codes.any()
    initial = problem.generating_codes
    assert torch.equal(make().run(problem, 0, initial=initial).codes, initial)


def test_warm_start_resumes_the_iteration():
    """ISTA keeps no state except its codes: five layers and seven more are twelve."""
    problem = sparse_problem()
    first = pudle.Ista().run(problem, 5).codes
    assert torch.equal(
        pudle.Ista().run(problem, 7, initial=first).codes, pudle.Ista().run(problem, 12).codes
    )


def test_warm_start_at_the_minimizer_stays_there(make):
    problem = sparse_problem()
    codes = pudle.reference(problem).codes
    assert (
        make().run(problem, 30, initial=codes).codes - codes
    ).abs().max() < tolerances.SAME_ARITHMETIC


def test_warm_start_is_not_written_to(make):
    problem = sparse_problem()
    initial = problem.generating_codes.clone()
    make().run(problem, 3, initial=initial)
    assert torch.equal(initial, problem.generating_codes)


@pytest.mark.parametrize("step", [None, 1.0], ids=["1/L", "1.9/L"])
def test_objective_decreases(step):
    """Proximal gradient steps below 2/L never raise the inner objective, which is the lasso loss."""
    problem = sparse_problem("lasso")
    step = None if step is None else 1.9 / problem.lipschitz_constant
    trajectory = pudle.Ista(step=step).run(problem, 60, keep=range(61))
    values = np.array([float(problem.outer_loss(trajectory.at(t))) for t in range(61)])
    assert (np.diff(values) <= 1e-13 * values[0]).all()
    assert values[1] < values[0]


def test_acceleration_helps():
    problem = sparse_problem("lasso")
    best = float(problem.outer_loss(pudle.reference(problem).codes))
    plain, accelerated = (
        float(problem.outer_loss(algorithm.run(problem, 60).codes)) - best
        for algorithm in (pudle.Ista(), pudle.Fista())
    )
    assert 0 <= accelerated < 0.5 * plain


def test_codes_converge_to_the_reference(make):
    problem = sparse_problem()
    reference = pudle.reference(problem)
    assert (make().run(problem, 4000).codes - reference.codes).abs().max() < tolerances.CONVERGED


def test_dtype_follows_the_problem(make, dtype):
    problem = sparse_problem(dtype=dtype)
    assert make().run(problem, 3).codes.dtype == dtype


def test_device_follows_the_problem(make, device):
    problem = sparse_problem(device=device)
    assert make().run(problem, 3).codes.device.type == device


def test_algorithms_are_immutable(make):
    with pytest.raises(dataclasses.FrozenInstanceError):
        make().step = 0.1


def test_run_is_differentiable(make):
    """The trajectory carries the graph of a dictionary that requires a gradient."""
    problem = sparse_problem()
    problem.dictionary.requires_grad_()
    codes = make().run(problem, 3).codes
    (gradient,) = torch.autograd.grad(codes.sum(), problem.dictionary)
    assert torch.isfinite(gradient).all() and gradient.any()


class TestRunRefusals:
    """Bad input that is only noticed when an algorithm runs on a problem."""

    @pytest.mark.parametrize("make", [sparse_problem, ridge_problem])
    def test_step_above_two_over_lipschitz_constant(self, make):
        problem = make()
        step = 2.01 / problem.lipschitz_constant
        with pytest.raises(pudle.InvalidArgument) as failure:
            pudle.Ista(step=step).run(problem, 3)
        assert (
            str(failure.value)
            == f"step={step} is above 2/L={2 / problem.lipschitz_constant:.6g}, where the iteration"
            " diverges: give a smaller step, or step=None for"
            f" 1/L={1 / problem.lipschitz_constant:.6g}"
        )

    @pytest.mark.parametrize("shape", [(3, 5), (5, 3)], ids=str)
    def test_given_step_where_the_constant_is_not_known(self, shape):
        """The largest singular value is 2 by construction: with the l2 penalty L = 5. Eigenvalues
        are for refusals alone.
        """
        dictionary = torch.eye(*shape, dtype=torch.float64) / 2
        dictionary[0, 0] = 2
        data = {
            "observations": torch.ones(2, shape[0], dtype=torch.float64),
            "dictionary": dictionary,
        }
        problem = pudle.SparseCoding(**data, penalty=0.1, l2_penalty=1.0)
        assert pudle.Ista(step=0.399).step_size(problem) == 0.399
        assert "lipschitz_constant" not in vars(problem)
        with pytest.raises(pudle.InvalidArgument, match="step=0.401 is above 2/L=0.4,"):
            pudle.Ista(step=0.401).step_size(problem)

    def test_step_of_two_over_lipschitz_constant_is_accepted(self, problem):
        pudle.Ista(step=2 / problem.lipschitz_constant).run(problem, 3)

    @pytest.mark.parametrize("step", [0.0, -0.1, float("nan"), float("inf"), "0.2", True], ids=repr)
    def test_impossible_step(self, step):
        with pytest.raises(pudle.InvalidArgument, match="step=.*: give a number > 0"):
            pudle.Ista(step=step)

    @pytest.mark.parametrize(
        "depth, text",
        [
            (-1, "depth=-1 is too small: give a whole number >= 0"),
            (1.5, "depth=1.5 is not an integer: give a whole number >= 0"),
            (True, "depth=True is not an integer: give a whole number >= 0"),
            (None, "depth=None is not an integer: give a whole number >= 0"),
        ],
    )
    def test_impossible_depth(self, problem, depth, text):
        with pytest.raises(pudle.InvalidArgument) as failure:
            pudle.Ista().run(problem, depth)
        assert str(failure.value) == text

    @pytest.mark.parametrize("window", [0, -3, 2.0, "5", None, True], ids=repr)
    def test_impossible_window(self, window):
        with pytest.raises(pudle.InvalidArgument, match="window=.*: give a whole number >= 1"):
            pudle.make_estimator("truncated(window=1)").__class__(window=window)

    def test_warm_start_of_another_shape(self, problem):
        with pytest.raises(
            pudle.InvalidArgument,
            match=r"initial has shape \(40, 17\): codes here have shape \(40, 18\)",
        ):
            pudle.Ista().run(problem, 1, initial=torch.zeros(40, 17, dtype=torch.float64))

    def test_iteration_that_was_not_kept(self, problem):
        trajectory = pudle.Ista().run(problem, 5, keep=[2])
        with pytest.raises(
            pudle.InvalidArgument, match=r"iteration 3 was not kept: run again with keep=\(3,\)"
        ):
            trajectory.at(3)

    @pytest.mark.parametrize("keep", [[6], [-1, 2]], ids=str)
    def test_iteration_that_is_not_run(self, problem, keep):
        with pytest.raises(pudle.InvalidArgument, match=r"lies outside 0\.\.5"):
            pudle.Ista().run(problem, 5, keep=keep)
