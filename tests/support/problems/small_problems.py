"""Small problems that many tests use, drawn in numpy from their own seeds."""

import numpy as np
import torch

import pudle
from pudle.measuring.case import Case
from pudle.measuring.run import Run
from pudle.measuring.selection import Selection
from pudle.workers import InProcess

PENALTY = 0.2
#: A case that is measured within a second.
TINY = Case(
    name="tiny",
    dataset="sparse_gaussian(n_samples=20, n_features=10, n_components=15, n_nonzero_coefs=2)",
    algorithm="ista",
    loss="lasso",
    seeds=(0, 1),
    depths=(5, 1),
)


def selected(*estimators, cases=(TINY,), depths=(1,), **changes):
    """Return a selection that tracks and times the same depths."""
    return Selection("quick", cases, estimators, depths, depths, **changes)


def filled(selection, store, executor=None, **options):
    """Fill a store with what a selection asks for, by default in this process, and return the
    run.
    """
    run = Run(selection, store)
    run.fill(executor or InProcess(), **options)
    return run


def sparse_arrays(seed=0, n=40, m=12, p=18, s=3):
    """Observations made of few Gaussian atoms of unit norm, and a dictionary near the generating
    one.
    """
    random = np.random.default_rng([seed, 2718])
    generating = random.standard_normal((m, p))
    generating /= np.linalg.norm(generating, axis=0)
    dictionary = generating + 0.05 * random.standard_normal((m, p))
    dictionary /= np.linalg.norm(dictionary, axis=0)
    codes = np.zeros((n, p))
    for row in codes:
        row[random.permutation(p)[:s]] = random.uniform(1, 2, s) * random.choice([-1.0, 1.0], s)
    return {
        "observations": codes @ generating.T,
        "dictionary": dictionary,
        "generating_dictionary": generating,
        "generating_codes": codes,
    }


def sparse_problem(
    loss="lasso",
    dtype=torch.float64,
    device="cpu",
    penalty=PENALTY,
    nonnegative=False,
    **shape,
):
    tensors = {
        name: torch.tensor(array, dtype=dtype, device=device)
        for name, array in sparse_arrays(**shape).items()
    }
    return pudle.SparseCoding(**tensors, penalty=penalty, loss=loss, nonnegative=nonnegative)


def ridge_problem():
    """A well-conditioned ridge regression with random observations and weights."""
    random = np.random.default_rng([0, 3141])
    return pudle.Ridge(
        observations=random.standard_normal((30, 12)),
        dictionary=random.standard_normal((12, 8)) / 3,
        weights=random.standard_normal(8),
        strength=0.3,
    )


def elastic_net(**fields):
    """An elastic net with more atoms than dimensions."""
    random = np.random.default_rng([0, 907])
    d = random.standard_normal((7, 10))
    d /= np.linalg.norm(d, axis=0)
    x = 1.5 * random.standard_normal((9, 7))
    return pudle.SparseCoding(observations=x, dictionary=d, penalty=0.2, l2_penalty=0.3, **fields)


def penalty_selection(weighted=False, nonnegative=False):
    """A choice of one penalty for twelve entries, or of one for each."""
    random = np.random.default_rng([0, 353])
    codes = random.choice([-1.0, 0, 0, 1.0], (6, 12))
    design, held_out = (random.standard_normal((m, 12)) / m**0.5 for m in (20, 15))
    return pudle.PenaltySelection(
        observations=codes @ design.T + 0.1 * random.standard_normal((6, 20)),
        design=design,
        held_out_observations=codes @ held_out.T + 0.1 * random.standard_normal((6, 15)),
        held_out_design=held_out,
        log_penalty=np.log(0.1) + (0.3 * random.standard_normal(12) if weighted else 0),
        nonnegative=nonnegative,
    )


def arrays_of(problem):
    """Observations and dictionary as float64 arrays."""
    return tuple(
        tensor.detach().cpu().double().numpy()
        for tensor in (problem.observations, problem.dictionary)
    )


def directions(shape, count=3):
    """Random directions of unit norm."""
    random = np.random.default_rng([count, 1618])
    drawn = [random.standard_normal(shape) for _ in range(count)]
    return [direction / np.linalg.norm(direction) for direction in drawn]
