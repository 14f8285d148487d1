"""Micro-benchmarks of the inner loops of every measurement; `make kernels` runs them, and the
normal run skips them.
"""

import pytest
import torch

import pudle
from pudle.algorithms.unrolling import reverse_accumulation
from pudle.threads import number_of_cores


@pytest.fixture(params=[500, 5000], ids="n={}".format)
def problem(request, dtype, device):
    return pudle.make_dataset(f"sparse_gaussian(n_samples={request.param})").problem(
        dtype=dtype, device=device
    )


@pytest.fixture
def measured(benchmark, device):
    """A function that measures a call until the device has done its work."""

    def measure(function, *arguments):
        def work():
            result = function(*arguments)
            if device == "cuda":
                torch.cuda.synchronize()
            return result

        return benchmark(work)

    return measure


@pytest.mark.benchmark(group="thresholding")
def test_thresholding(measured, problem):
    values = problem.smooth_gradient(problem.initial_codes())
    assert (measured(pudle.Ista().thresholding, values, 0.1, 0, False) == 0).any()


@pytest.mark.benchmark(group="one layer")
@pytest.mark.parametrize("algorithm", [pudle.Ista(), pudle.Fista()], ids=["ista", "fista"])
def test_layer(measured, problem, algorithm):
    state = algorithm.run(problem, 3, keep=[3]).states[3]
    advance = torch.no_grad()(algorithm.advance)
    assert measured(advance, problem, state, algorithm.step_size(problem)).iteration == 4


@pytest.mark.benchmark(group="adjoint of one layer")
@pytest.mark.parametrize("algorithm", [pudle.Ista(), pudle.Fista()], ids=["ista", "fista"])
def test_adjoint(measured, problem, algorithm):
    """Measure one layer's vector-Jacobian product, for which the layer is run again."""
    trajectory = algorithm.run(problem, 4, keep=[3])
    states = [trajectory.states[3], trajectory.states[4]]
    weights = torch.ones_like(trajectory.codes)
    (gradient,) = measured(reverse_accumulation, problem, algorithm, states, weights)
    assert gradient.shape == problem.theta.shape


#: One thread, then twice as many, up to all cores.
THREADS = [2**power for power in range(number_of_cores().bit_length())]


@pytest.mark.benchmark(group="a gradient over threads")
@pytest.mark.parametrize("n_threads", THREADS)
@pytest.mark.parametrize("n_samples", [1000, 10000])
def test_threads(benchmark, n_threads, n_samples):
    """Measure the wall time of `backprop` through 50 layers in several threads."""
    problem = pudle.make_dataset(f"sparse_gaussian(n_samples={n_samples})").problem(
        dtype=torch.float32
    )
    estimator, algorithm = pudle.make_estimator("backprop"), pudle.Ista(step=0.2)
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        estimate = benchmark(estimator.estimate, problem, algorithm, 50)
    finally:
        torch.set_num_threads(before)
    assert estimate.gradient.isfinite().all()
