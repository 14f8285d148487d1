"""Fixtures that all test modules share."""

import sys

import pytest
import torch
from hypothesis import HealthCheck, settings
from support.problems.small_problems import ridge_problem, sparse_problem

from pudle import names
from pudle.errors import MissingDependency

# How long drawing takes depends on what else the machine does.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")

needs_cuda = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="this machine has no CUDA device"
)


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Run on one thread, so that sums have one order and timings are stable on a shared machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=needs_cuda)])
def device(request):
    return request.param


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"])
def dtype(request):
    return request.param


@pytest.fixture(params=["lasso", "reconstruction"])
def loss(request):
    return request.param


@pytest.fixture
def problem(loss):
    """Small sparse coding problem in float64, with either loss."""
    return sparse_problem(loss)


@pytest.fixture
def ridge():
    """Small ridge regression in float64."""
    return ridge_problem()


@pytest.fixture
def installed(monkeypatch):
    """Return a function that puts a folder of plug-ins on the path, of this process and of those
    that it starts; what it brings is forgotten afterwards.
    """
    before = set(sys.modules)

    def install(folder):
        monkeypatch.syspath_prepend(folder)
        monkeypatch.setenv("PYTHONPATH", str(folder))
        names.entries.cache_clear()

    yield install
    names.entries.cache_clear()
    for name in set(sys.modules) - before:
        if "plugin" in name:
            del sys.modules[name]


def pytest_configure(config):
    # torch's forward mode calls a function that torch deprecates.
    config.addinivalue_line("filterwarnings", "ignore:`torch.jit.script:DeprecationWarning")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Skip a test, with the reason, if it needs an optional extra that is not installed."""
    try:
        return (yield)
    except MissingDependency as missing:
        pytest.skip(str(missing))
