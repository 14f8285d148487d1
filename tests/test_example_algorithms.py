"""The algorithm files in examples/algorithms, measured with seven estimators."""

from __future__ import annotations

import importlib.util
import sys

import pytest
import tolerances
import torch
from comparisons import relative
from examples import sparse_problem
from paths import ROOT

import pudle

FILES = sorted((ROOT / "examples" / "algorithms").glob("*.py"))
#: Estimators of the gradient of the codes at finite depth, and of that of their limit.
UNROLLED = ("backprop", "checkpointed", "forward")
IMPLICIT = ("analytic", "conjugate_gradient", "fixed_point(terms=1500)")
LONGEST = 30


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def algorithm(request):
    spec = importlib.util.spec_from_file_location(f"example_{request.param.stem}", request.param)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    (cls,) = [
        each for each in vars(module).values() if getattr(each, "name", None) == request.param.stem
    ]
    return cls()


@pytest.fixture
def problem(loss):
    return sparse_problem(loss, n=10)


def test_the_files_are_short():
    assert {file.stem for file in FILES} == {"coordinate_descent", "heavy_ball", "proximal_newton"}
    assert max(len(file.read_text().splitlines()) for file in FILES) <= LONGEST


def by_hand(problem, algorithm, depth, constant_layers=0):
    """Return the gradient by plain autograd over the layers, of which the first few are constant."""
    theta = problem.dictionary.clone().requires_grad_()
    live, step = problem.with_theta(theta), algorithm.step_size(problem)
    state = algorithm.start(problem)
    for layer in range(depth):
        # At the problem's own theta, which needs no gradient, layers are constants.
        state = algorithm.advance(problem if layer < constant_layers else live, state, step)
    return torch.autograd.grad(live.outer_loss(state.codes), theta)[0], state.codes


@pytest.mark.parametrize("name", UNROLLED)
def test_unrolled_gradients(algorithm, problem, name):
    """A state that holds more than the codes is differentiated in all that it holds."""
    expected, codes = by_hand(problem, algorithm, 9)
    estimate = pudle.make_estimator(name).estimate(problem, algorithm, 9)
    assert relative(estimate.gradient, expected) < tolerances.SAME_ARITHMETIC
    assert torch.equal(estimate.codes, codes.detach())


@pytest.mark.parametrize("name", IMPLICIT)
def test_implicit_gradients(algorithm, problem, name):
    reference = pudle.reference(problem)
    assert reference.status == "certified"
    depth = 800 if algorithm.name == "heavy_ball" else 150
    score = pudle.score(pudle.make_estimator(name).estimate(problem, algorithm, depth), reference)
    assert score.status == "ok" and score.support_error == 0
    assert score.relative_error < tolerances.CONVERGED
