"""Certified codes against those of other solvers, most of them from the optional extra `peers`."""

import numpy as np
import pytest
from support.oracles import tolerances
from support.problems.small_problems import sparse_problem

import pudle
from pudle import peers


def lasso_codes(library):
    """Return a solver by a class `Lasso` like scikit-learn's."""

    def codes(observations, dictionary, penalty):
        options = {"alpha": penalty / len(dictionary), "fit_intercept": False}
        most = 100_000 if library == "sklearn.linear_model" else 1000
        model = peers.require(library).Lasso(**options, tol=1e-14, max_iter=most)
        return np.array([model.fit(dictionary, x).coef_.copy() for x in observations])

    codes.__name__ = library
    return codes


def spams_codes(observations, dictionary, penalty):
    lasso = peers.require("spams").lasso
    samples, atoms = np.asfortranarray(observations.T), np.asfortranarray(dictionary)
    return lasso(samples, D=atoms, lambda1=penalty, lambda2=0.0, mode=2, numThreads=1).toarray().T


#: Solvers with how close their codes can be brought to the minimizer.
CODES = {
    lasso_codes("sklearn.linear_model"): tolerances.SOLVER_CODES,
    lasso_codes("celer"): tolerances.SOLVER_CODES,
    lasso_codes("skglm"): tolerances.SOLVER_CODES,
    spams_codes: tolerances.SPAMS_CODES,
}


#: Algorithms that solve the lasso, with steps that are enough.
SOLVERS = {"active_set": 60, "coordinate_descent": 600}


@pytest.mark.parametrize("solver", CODES, ids=lambda solver: solver.__name__)
def test_certified_codes_and_solutions_are_those_of_other_solvers(solver):
    problem = sparse_problem()
    reference = pudle.reference(problem)
    assert reference.status == "certified"
    with peers.quiet():
        codes = solver(problem.observations.numpy(), problem.dictionary.numpy(), problem.penalty)
    own = [pudle.make_algorithm(name).run(problem, depth).codes for name, depth in SOLVERS.items()]
    for mine in (reference.codes, *own):
        assert np.abs(codes - mine.numpy()).max() < CODES[solver]
