"""The files in examples/algorithms: estimators reach the exact gradient with each."""

import importlib.util
import sys

import pytest
import tolerances
from examples import sparse_problem
from paths import ROOT

import pudle

FILES = sorted((ROOT / "examples" / "algorithms").glob("*.py"))
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


@pytest.mark.parametrize("name", IMPLICIT)
def test_implicit_gradients(algorithm, problem, name):
    reference = pudle.reference(problem)
    assert reference.status == "certified"
    depth = 800 if algorithm.name == "heavy_ball" else 150
    score = pudle.score(pudle.make_estimator(name).estimate(problem, algorithm, depth), reference)
    assert score.status == "ok" and score.support_error == 0
    assert score.relative_error < tolerances.CONVERGED
