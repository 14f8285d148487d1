"""Rows of docs/results/how_accurate.md anew in numpy alone: layers, their derivative, Adam, the
exact gradient, and what they led to.
"""

import re

import numpy as np
import pytest
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
            errors.append(np.linalg.norm(gradient - exact) / np.linalg.norm(exact))
        d = d + change(gradient)
        d = d / np.linalg.norm(d, axis=0)
    # Every atom is still the nearest to its own, or this norm would be too large.
    signs = np.sign((target * d).sum(0))
    return np.median(errors), np.linalg.norm(d * signs - target) / np.linalg.norm(target)


def softmax(scores):
    values = np.exp(scores)
    return values / values.sum(1, keepdims=True)


def cleaned(seed):
    """Return the median error of the implicit gradients after 20 layers, and for the learned
    weights the validation loss, their AUC and the accuracy on the test images.
    """
    dataset = pudle.make_dataset(f"hyper_cleaning(n_samples=500, seed={seed})")
    training, validation, test = dataset.draw()
    (a, y), (b, right) = ((each.images, np.eye(10)[each.labels]) for each in (training, validation))
    theta, change, errors = np.zeros(500), adam(0.05), []

    def slope(w):
        return a.T @ (shares[:, None] * (softmax(a @ w) - y)) / 500 + 0.4 * w

    def solved(w, right_hand_side):
        s = softmax(a @ w)
        rows = (shares[:, None, None] ** 0.5 * a[:, :, None] * s[:, None]).reshape(500, 640)
        hessian = -rows.T @ rows
        # The blocks of each class with itself.
        hessian.reshape(64, 10, 64, 10)[:, range(10), :, range(10)] += (
            a.T * (shares * s.T)[:, None]
        ) @ a
        hessian = hessian / 500 + 0.4 * np.eye(640)
        return np.linalg.solve(hessian, right_hand_side.ravel()).reshape(64, 10)

    def minimizer(w):
        for _ in range(6):
            w = w - solved(w, slope(w))
        return w

    def implicit(w):
        v = solved(w, b.T @ (softmax(b @ w) - right) / len(b))
        return -shares * (1 - shares) * ((softmax(a @ w) - y) * (a @ v)).sum(1) / 500

    for step in range(100):
        shares = 1 / (1 + np.exp(-theta))
        size, w = 0.4 + shares.max() * np.linalg.norm(a, 2) ** 2 / 1000, np.zeros((64, 10))
        for _ in range(20):
            w = w - slope(w) / size
        gradient = implicit(w)
        if step % 20 == 0:
            exact = implicit(minimizer(w))
            errors.append(np.linalg.norm(gradient - exact) / np.linalg.norm(exact))
        theta = theta + change(gradient)
    shares = 1 / (1 + np.exp(-theta))
    w = minimizer(w)
    loss = -np.log(softmax(b @ w)[right == 1]).mean()
    kept, wrong = theta[~training.wrong], theta[training.wrong]
    accuracy = ((test.images @ w).argmax(1) == test.labels).mean()
    return np.median(errors), loss, (kept[:, None] > wrong).mean(), accuracy


ROWS = {
    "far, lasso | backprop, 25 layers": repeated,
    "hyper-cleaning | analytic, 20 layers": cleaned,
}


@pytest.mark.nightly
@pytest.mark.parametrize("row", ROWS)
def test_numpy_alone_gives_the_row(row):
    page = (ROOT / "docs" / "results" / "how_accurate.md").read_text()
    (cells,) = re.findall(rf"^\| {re.escape(row)} \|(.*)\|$", page, re.MULTILINE)
    outcomes = np.transpose([ROWS[row](seed) for seed in range(3)])
    for cell, values in zip(cells.split("|"), outcomes, strict=False):
        for said, value in zip(cell.strip().split(", "), values, strict=True):
            # As many digits as the page has.
            assert said == f"{value:.{len(said.partition('.')[2])}f}"
