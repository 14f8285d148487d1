"""Rows of docs/results/how_accurate.md anew in numpy alone: layers, their derivative, Adam, the
exact gradient, and what they led to.
"""

import re

import numpy as np
import pytest
from comparisons import relative
from oracles import exact_codes, soft
from paths import ROOT

import pudle

DEPTH, STEP, PENALTY = 25, 0.2, 0.2


def adam(rate):
    """Return a function from the gradients of one step after the other to the changes."""
    mean, square, steps = 0.0, 0.0, 0

    def change(gradient):
        nonlocal mean, square, steps
        steps += 1
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        root = np.sqrt(square / (1 - 0.999**steps)) + 1e-8
        return -rate * mean / (1 - 0.9**steps) / root

    return change


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
    change, errors = adam(1e-3), []
    for step in range(1, 201):
        gradient = backprop(x, d)
        if step % 10 == 0:
            z = exact_codes(x, d, PENALTY).astype(float)
            exact = (z @ d.T - x).T @ z / len(x)
            errors.append(relative(gradient, exact))
        d = d + change(gradient)
        d = d / np.linalg.norm(d, axis=0)
    # Every atom is still the nearest to its own, or this norm would be too large.
    signs = np.sign((target * d).sum(0))
    return np.median(errors), relative(d * signs, target)


def chosen(seed):
    """Return the median error of implicit gradients after 100 layers, and the held-out loss for
    the penalties that they lead to.
    """
    a, b = pudle.make_dataset(f"logistic(per_feature=True, seed={seed})").draw()
    penalties, change, errors = np.full(30, 0.1), adam(0.05), []

    def slope(rows, w):
        return -rows.T @ (1 / (1 + np.exp(rows @ w))) / len(rows)

    def solved(w, vector):
        p = 1 / (1 + np.exp(a @ w))
        return np.linalg.solve(a.T * (p * (1 - p)) @ a / len(a) + np.diag(penalties), vector)

    def implicit(w):
        return -penalties * w * solved(w, slope(b, w))

    for step in range(101):
        size, w = np.linalg.norm(a, 2) ** 2 / len(a) / 4 + penalties.max(), np.zeros(30)
        for _ in range(100):
            w = w - (slope(a, w) + penalties * w) / size
        gradient = implicit(w)
        if step % 20 == 0:
            for _ in range(20):
                w = w - solved(w, slope(a, w) + penalties * w)
            errors.append(relative(gradient, implicit(w)))
        penalties = penalties * np.exp(change(gradient))
    # The last minimizer is that for the penalties after 100 steps.
    return np.median(errors[:-1]), np.log1p(np.exp(-b @ w)).mean()


@pytest.mark.nightly
@pytest.mark.parametrize(
    "row, repeat",
    [
        ("far, lasso | backprop, 25 layers", repeated),
        ("logistic | analytic, 100 layers", chosen),
    ],
)
def test_numpy_alone_gives_the_row(row, repeat):
    page = (ROOT / "docs" / "results" / "how_accurate.md").read_text()
    (cells,) = re.findall(rf"^\| {re.escape(row)} \|(.*)\|$", page, re.MULTILINE)
    printed = (cell.strip().split(", ") for cell in cells.split("|")[:2])
    for seed, said in enumerate(zip(*printed, strict=True)):
        # As many digits as the page has.
        assert said == tuple(f"{each:#.3g}" for each in repeat(seed))
