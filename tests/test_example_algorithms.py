"""The files in examples/algorithms: estimators reach the exact gradient with each."""

import pytest
from support.oracles import tolerances
from support.paths import ROOT
from support.problems.small_problems import sparse_problem

import pudle

FILES = sorted((ROOT / "examples" / "algorithms").glob("*.py"))


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def algorithm(request):
    return pudle.make_algorithm(str(request.param))


@pytest.mark.parametrize("name", ["analytic", "conjugate_gradient", "fixed_point(terms=1500)"])
def test_implicit_gradients(algorithm, loss, name):
    problem = sparse_problem(loss, n=10)
    reference = pudle.reference(problem)
    assert reference.status == "certified"
    depth = 800 if algorithm.name == "heavy_ball" else 150
    score = pudle.score(pudle.make_estimator(name).estimate(problem, algorithm, depth), reference)
    assert score.status == "ok" and score.support_error == 0
    assert score.relative_error < tolerances.CONVERGED
