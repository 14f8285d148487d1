"""Micro-benchmarks of the inner loops of every measurement; `make kernels` runs them, and the
normal run skips them.
"""

from __future__ import annotations

import pytest
import torch

import pudle
from pudle.algorithms.unrolling import reverse_accumulation


@pytest.fixture(params=[500, 5000], ids="n={}".format)
def problem(request, dtype, device) -> pudle.SparseCoding:
    return pudle.make_dataset(f"sparse_gaussian(n_samples={request.param})").problem(
        dtype=dtype, device=device
    )


@pytest.fixture
def finished(device):
    """A function that waits until the device has done its work."""
    return torch.cuda.synchronize if device == "cuda" else lambda: None


@pytest.mark.benchmark(group="thresholding")
@pytest.mark.parametrize("nonnegative", [False, True], ids=["two-sided", "nonnegative"])
def test_thresholding(benchmark, problem, finished, nonnegative):
    threshold = pudle.Ista().thresholding
    values = problem.smooth_gradient(problem.initial_codes())

    def work():
        out = threshold(values, 0.1, 0, nonnegative)
        finished()
        return out

    assert (benchmark(work) == 0).any()


@pytest.mark.benchmark(group="one layer")
@pytest.mark.parametrize("algorithm", [pudle.Ista(), pudle.Fista()], ids=["ista", "fista"])
def test_layer(benchmark, problem, finished, algorithm):
    state = algorithm.run(problem, 3, keep=[3]).states[3]
    step = algorithm.step_size(problem)

    def work():
        with torch.no_grad():
            after = algorithm.advance(problem, state, step)
        finished()
        return after

    assert benchmark(work).iteration == state.iteration + 1


@pytest.mark.benchmark(group="adjoint of one layer")
@pytest.mark.parametrize("algorithm", [pudle.Ista(), pudle.Fista()], ids=["ista", "fista"])
def test_adjoint(benchmark, problem, finished, algorithm):
    """Measure one layer's vector-Jacobian product, for which the layer is run again."""
    trajectory = algorithm.run(problem, 4, keep=[3])
    states = [trajectory.states[3], trajectory.states[4]]
    weights = torch.ones_like(trajectory.codes)

    def work():
        (gradient,) = reverse_accumulation(problem, algorithm, states, weights)
        finished()
        return gradient

    assert benchmark(work).shape == problem.theta.shape


@pytest.mark.benchmark(group="one training step of convolutional sparse coding")
@pytest.mark.parametrize("name", ["backprop", "alternating"])
def test_convolutional_step(benchmark, dtype, device, finished, name):
    """Make a new problem every time, as in a training: 64 filters of 9 x 9, stride 4, 15 layers, 4
    crops of 129 x 129.
    """
    random = torch.Generator().manual_seed(0)
    images = torch.rand((4, 1, 129, 129), generator=random, dtype=dtype).to(device)
    filters = torch.randn((64, 1, 9, 9), generator=random, dtype=dtype).to(device)
    filters /= filters.flatten(1).norm(dim=1)[:, None, None, None]
    estimator, algorithm = pudle.make_estimator(name), pudle.Ista(step=0.08)

    def work():
        problem = pudle.ConvolutionalSparseCoding(
            observations=images, dictionary=filters, penalty=0.1, stride=4, nonnegative=True
        )
        gradient = estimator.estimate(problem, algorithm, 15).gradient
        finished()
        return gradient

    assert benchmark(work).shape == filters.shape


@pytest.mark.benchmark(group="active systems")
def test_active_systems(benchmark, problem, finished):
    codes = pudle.Ista(step=0.2).run(problem, 50).codes
    right = problem.adjoint(problem.residual(codes))

    def work():
        solution, _ = problem.solve_active(codes, right)
        finished()
        return solution

    assert benchmark(work).shape == codes.shape
