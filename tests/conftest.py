"""Fixtures every test file shares."""

from __future__ import annotations

import pytest
import torch
from examples import ridge_problem, sparse_problem

from pudle.errors import MissingDependency

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """One thread, so that sums run in one order and timings mean something on a shared machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=needs_cuda)])
def device(request) -> str:
    return request.param


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"])
def dtype(request) -> torch.dtype:
    return request.param


@pytest.fixture(params=["lasso", "reconstruction"])
def loss(request) -> str:
    return request.param


@pytest.fixture
def problem(loss):
    """Small sparse coding problem in float64, with either loss."""
    return sparse_problem(loss)


@pytest.fixture
def ridge():
    """Small ridge regression in float64."""
    return ridge_problem()


def pytest_configure(config):
    # torch's own forward mode compiles its decompositions with a function that torch itself deprecates.
    config.addinivalue_line("filterwarnings", "ignore:`torch.jit.script:DeprecationWarning")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Skip, with the reason, what a test cannot do for want of an optional extra."""
    try:
        return (yield)
    except MissingDependency as missing:
        pytest.skip(str(missing))
