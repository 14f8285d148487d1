"""Rows of docs/results/how_accurate.md anew in numpy alone: layers, their derivative, Adam and
gradient descent, the exact gradient, errors that are put there on purpose, and what they led to.
"""

import re
from functools import partial

import numpy as np
import pytest
from support.oracles.comparisons import relative
from support.oracles.in_numpy import exact_codes, soft
from support.paths import ROOT

import pudle

STEP, PENALTY = 0.2, 0.2


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


def descent(rate):
    """Return the function from a gradient to the change in gradient descent."""
    return lambda gradient: -rate * gradient


def backprop(x, d, depth):
    """The gradient of the mean of 1/2 |x - D z_T|^2 + penalty |z_T|_1, layer by layer backwards."""
    layers = [np.zeros((len(x), d.shape[1]))]
    for _ in range(depth):
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


def far_start(seed):
    """Return observations, the first dictionary and the generating one."""
    dataset = pudle.make_dataset(f"sparse_gaussian(n_samples=500, perturbation=0.1, seed={seed})")
    problem = dataset.problem("lasso")
    parts = problem.observations, problem.dictionary, problem.generating_dictionary
    return (part.numpy() for part in parts)


def distance(d, target):
    """The relative distance; every atom is still the nearest to its own, or it would be larger."""
    return relative(d * np.sign((target * d).sum(0)), target)


def repeated(seed, depth, change, steps):
    """Return the median error of the gradient and the relative error of the learned dictionary."""
    (x, d, target), change, errors = far_start(seed), change(), []
    for step in range(1, steps + 1):
        gradient = backprop(x, d, depth)
        if step % 10 == 0:
            z = exact_codes(x, d, PENALTY).astype(float)
            exact = (z @ d.T - x).T @ z / len(x)
            errors.append(relative(gradient, exact))
        d = d + change(gradient)
        d = d / np.linalg.norm(d, axis=0)
    return np.median(errors), distance(d, target)


def converged(x, d, z):
    """The codes that iterations from z converge to."""
    while True:
        moved = soft(z + STEP * (x - z @ d.T) @ d, STEP * PENALTY)
        if np.abs(moved - z).max() < 1e-8:
            return moved
        z = moved


def biased(seed, size):
    """Return where gradient descent ends with an error away from the generating dictionary."""
    x, d, target = far_start(seed)
    z = np.zeros((len(x), d.shape[1]))
    for _ in range(200):
        z = converged(x, d, z)
        gradient = (z @ d.T - x).T @ z / len(x)
        away = (target - d) / np.linalg.norm(target - d)
        d = d - 3 * (gradient + size * np.linalg.norm(gradient) * away)
        d = d / np.linalg.norm(d, axis=0)
    return distance(d, target)


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


def row_of(label):
    """Return the cells after a label that begins a row of the page."""
    page = (ROOT / "docs" / "results" / "how_accurate.md").read_text()
    (cells,) = re.findall(rf"^\| {re.escape(label)} \|(.*)\|$", page, re.MULTILINE)
    return [cell.strip().split(", ") for cell in cells.split("|")]


@pytest.mark.nightly
@pytest.mark.parametrize(
    "row, repeat",
    [
        (
            "far, lasso | backprop, 25 layers",
            partial(repeated, depth=25, change=partial(adam, 1e-3), steps=200),
        ),
        (
            "lasso | 50, 100 | SGD 3, 100 | backprop, 50 layers",
            partial(repeated, depth=50, change=partial(descent, 3), steps=100),
        ),
        ("logistic | analytic, 100 layers", chosen),
    ],
)
def test_numpy_alone_gives_the_row(row, repeat):
    for seed, said in enumerate(zip(*row_of(row)[:2], strict=True)):
        # As many digits as the page has.
        assert said == tuple(f"{each:#.3g}" for each in repeat(seed))


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(3))
def test_numpy_alone_gives_the_end_of_a_biased_training(seed):
    ends = row_of("far, lasso, SGD 3 | 0.0354 | away from the dictionary")[0]
    assert ends[seed] == f"{biased(seed, 0.0354):#.3g}"
