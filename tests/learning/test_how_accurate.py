"""A row of docs/results/how_accurate.md anew in numpy alone: layers, their derivative, Adam, the
exact gradient, and the distance of the dictionaries.
"""

import re

import numpy as np
import pytest
from oracles import exact_codes, soft
from paths import ROOT

import pudle

DEPTH, STEP, PENALTY = 25, 0.2, 0.2


def backprop(x, d):
    """The gradient of the mean of 1/2 |x - D z_T|^2 + penalty |z_T|_1, layer by layer backwards."""
    layers = [np.zeros((len(x), d.shape[1]))]
    for _ in range(DEPTH):
        moved = layers[-1] + STEP * (x - layers[-1] @ d.T) @ d
        layers.append(soft(moved, STEP * PENALTY))
    z = layers[-1]
    residual = x - z @ d.T
    gradient = -residual.T @ z
    v = PENALTY * np.sign(z) - residual @ d
    for before, after in zip(layers[-2::-1], layers[:0:-1], strict=True):
        v = v * (after != 0)
        residual = x - before @ d.T
        # The layer adds STEP (x - D z) D, in which the dictionary stands twice.
        gradient += STEP * (residual.T @ v - (v @ d.T).T @ before)
        v = v - STEP * (v @ d.T) @ d
    return gradient / len(x)


def repeated(seed):
    """Return the median error of the gradient and the relative error of the learned dictionary."""
    dataset = pudle.make_dataset(f"sparse_gaussian(n_samples=500, perturbation=0.1, seed={seed})")
    problem = dataset.problem("lasso")
    x, d, target = (
        each.numpy()
        for each in (problem.observations, problem.dictionary, problem.generating_dictionary)
    )
    mean, square, errors = 0.0, 0.0, []
    for step in range(1, 201):
        gradient = backprop(x, d)
        if step % 10 == 0:
            z = exact_codes(x, d, PENALTY).astype(float)
            exact = (z @ d.T - x).T @ z / len(x)
            errors.append(np.linalg.norm(gradient - exact) / np.linalg.norm(exact))
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        root = np.sqrt(square / (1 - 0.999**step)) + 1e-8
        d = d - 1e-3 * mean / (1 - 0.9**step) / root
        d = d / np.linalg.norm(d, axis=0)
    # Every atom is still the nearest to its own, or this norm would be too large.
    signs = np.sign((target * d).sum(0))
    return np.median(errors), np.linalg.norm(d * signs - target) / np.linalg.norm(target)


@pytest.mark.nightly
def test_numpy_alone_gives_the_row_of_backprop_at_25_layers():
    page = (ROOT / "docs" / "results" / "how_accurate.md").read_text()
    (row,) = re.findall(r"^\| far, lasso \| backprop, 25 layers \|(.*)\|$", page, re.MULTILINE)
    errors, distances = (list(map(float, cell.split(", "))) for cell in row.split("|")[:2])
    for seed, (error, distance) in enumerate(zip(errors, distances, strict=True)):
        # As many digits as the page has.
        assert [f"{each:.3g}" for each in repeated(seed)] == [f"{error:.3g}", f"{distance:.3g}"]
