"""Inner algorithms, against an implementation in numpy."""

import numpy as np
import pytest
import torch
from support.oracles import in_numpy, tolerances
from support.oracles.comparisons import refusal, relative
from support.problems.small_problems import arrays_of, sparse_problem

import pudle
from pudle import names


@pytest.fixture(params=[pudle.Ista, pudle.Fista], ids=["ista", "fista"])
def make(request):
    return request.param


@pytest.mark.parametrize("nonnegative", [False, True], ids=["two-sided", "nonnegative"])
@pytest.mark.parametrize("depth", [2, 25])
@pytest.mark.parametrize("step", [None, 0.05])
def test_codes_against_numpy(make, depth, step, nonnegative):
    problem = sparse_problem(nonnegative=nonnegative)
    size = step or 1 / np.linalg.norm(arrays_of(problem)[1], 2) ** 2
    truth = in_numpy.ClosedForm(problem, make(step=size)).codes(depth)
    codes = make(step=step).run(problem, depth).codes
    assert relative(codes, truth) < tolerances.SAME_ARITHMETIC
    assert np.array_equal(codes.numpy() == 0, truth == 0)


def test_a_run_is_differentiated_in_the_codes_that_it_is_given(make):
    problem = sparse_problem()
    codes = make().run(problem, 30).codes.requires_grad_()

    def squares(shift):
        return make().run(problem, 3, initial=codes + shift * direction).codes.square().sum()

    direction = torch.where(codes.detach() == 0, 0, 1.0)
    (slope,) = torch.autograd.grad(squares(0), codes)
    difference = float((squares(1e-5) - squares(-1e-5)).detach()) / 2e-5
    assert abs(float((slope * direction).sum()) - difference) < 1e-6 * abs(difference)


def test_a_warm_start_is_data_and_no_part_of_a_spec():
    initial = torch.ones(40, 18, dtype=torch.float64)
    warm = pudle.Ista(step=0.2, initial=initial)
    assert names.text(warm) == "ista(step=0.2)"
    assert warm == pudle.Ista(step=0.2) and hash(warm) == hash(pudle.Ista(step=0.2))
    text = refusal(lambda: pudle.Ista(initial=initial.float()).run(sparse_problem(), 1))
    assert "differ in dtype" in text


@pytest.mark.parametrize("shape", [(3, 5), (5, 3)], ids=str)
def test_given_step_where_the_constant_is_not_known(shape):
    """The largest singular value is 2 by construction: with the l2 penalty L = 5. Eigenvalues are
    for refusals alone.
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


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda problem: pudle.Ista(step=9.0).run(problem, 3), "give a smaller step"),
        (lambda problem: pudle.Ista().run(problem, True), "depth=True is not an integer"),
        (lambda problem: pudle.Ista().run(problem, 5, keep=[6]), "lies outside 0..5"),
        (lambda problem: pudle.Ista().run(problem, 5).at(3), "run again with keep=(3,)"),
        (
            lambda problem: pudle.Ista().run(problem, 1, initial=torch.zeros(40, 17).double()),
            "initial has shape (40, 17): codes here have shape (40, 18)",
        ),
    ],
)
def test_what_does_not_fit_a_problem_is_refused(call, words):
    assert words in refusal(lambda: call(sparse_problem()))


@pytest.mark.parametrize(
    "spec, words",
    [
        ("ista(step=0.0)", "give a number > 0"),
        ("ista(step=True)", "give a number > 0"),
        ("ista(thresholding='sfot')", "did you mean 'soft'"),
        ("ista(thresholding=3)", "no thresholding rule"),
        ("ista(thresholding='decaying(decay=1.0)')", "decay=1.0: give a number below 1"),
        ("ista(thresholding='hard(threshold=0)')", "threshold=0 is out of range"),
        ("ista(initial=3)", "no argument 'initial'"),
        ("fista(restart='no')", "restart"),
        ("noodl(thresholding='soft')", "is not hard, as NOODL's is: use ista with this rule"),
        ("noodl(lower_bound=0)", "lower_bound=0 is out of range"),
    ],
)
def test_wrong_options_are_refused(spec, words):
    assert words in refusal(lambda: pudle.make_algorithm(spec))


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: pudle.Iteration(step=0.5), "iteration has no step size: leave it out"),
        (lambda: pudle.ActiveSet(thresholding="hard"), "no thresholding rule: leave it out"),
        (lambda: pudle.Accelerated(thresholding="hard"), "accelerated has no thresholding rule"),
        (lambda: pudle.Fista(restart="no"), "restart='no' is neither True nor False"),
    ],
)
def test_what_an_algorithm_does_not_take_is_refused(make, words):
    assert words in refusal(make)
