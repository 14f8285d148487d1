"""The equilibrium layer of torchdeq, wrapped from outside: its own backward pass against ours."""

import pytest
import torch
from comparisons import relative
from estimator_specs import estimate
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy

import pudle
from pudle import peers

#: What remains of the library's backward iterations.
REMAINS = 1e-9
IMPLICIT = (
    "analytic",
    "conjugate_gradient(iterations=300, rtol=1e-13)",
    "fixed_point(terms=400)",
    "backprop",
)


@pytest.mark.nightly
def test_equilibrium_layer():
    """The layer of the dataset `equilibrium`, with the same weights, written as the documentation
    of torchdeq has it.
    """
    dataset, drawn = pudle.make_dataset("equilibrium(n_components=10)"), load_digits()
    problem, chosen = dataset.problem(), dataset.generator().permutation(1797)[:20]
    images = drawn.images[chosen].reshape(-1, 4, 2, 4, 2).mean((2, 4)).reshape(-1, 16) / 16
    images, labels = torch.tensor(images), torch.tensor(drawn.target[chosen])
    theta = problem.theta.clone().requires_grad_()
    recurrent, inward, bias, outward = (
        theta[:100].reshape(10, 10),
        theta[100:260].reshape(10, 16),
        theta[260:270],
        theta[270:].reshape(10, 10),
    )
    solver = peers.require("torchdeq").get_deq(
        f_max_iter=400, f_tol=1e-14, b_max_iter=400, b_tol=1e-14, ift=True
    )
    (codes,), _ = solver(
        lambda z: torch.tanh(z @ recurrent.T + images @ inward.T + bias),
        torch.zeros(20, 10).double(),
    )
    cross_entropy(codes @ outward.T, labels).backward()
    reference = pudle.reference(problem)
    assert reference.status == "limit", reference.reason
    assert relative(reference.gradient, theta.grad) < REMAINS
    for spec in IMPLICIT:
        mine = estimate(spec, problem, pudle.Iteration(), 400).gradient
        assert relative(mine, theta.grad) < REMAINS
