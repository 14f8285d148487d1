"""Programs that compute the same gradients: this package, its peers as their own documentation
would write them, a bound.

Every maker takes a task and a precision and returns a function without arguments, whose result is
the task's gradients; all that is done once, such as compiling, is done by the maker or by the first
call.
"""

import functools
import itertools
import os
from dataclasses import dataclass, replace
from unittest.mock import patch

import numpy as np
import torch
from torch.nn.functional import relu, softshrink

import pudle
from pudle import peers

STEP = 0.2
#: Steps of `active_set`: more than any sample here takes.
STEPS = 200


@dataclass(frozen=True)
class Task:
    """Gradients of `backprop` on a dataset, of `truncated` if there is a window, and in a sweep
    over several depths those of `alternating` as well.
    """

    dataset: str
    depths: tuple[int, ...]
    losses: tuple[str, ...] = ("lasso",)
    #: Number of samples to take from those that `smooth` returns; None for all samples.
    samples: int | None = None
    window: int | None = None
    #: Whether the gradient at the minimizer is wanted; `backprop` then stops short of it.
    exact: bool = False

    @property
    def sweep(self):
        return len(self.depths) > 1

    def problem(self, dtype):
        return _problem(self, dtype)


@functools.lru_cache(maxsize=2)
def _problem(task, dtype):
    dataset = pudle.make_dataset(task.dataset)
    problem = dataset.problem(dtype=dtype)
    if task.samples is None:
        return problem
    kept = smooth(dataset.problem(dtype=torch.float64), max(task.depths))[: task.samples]
    assert len(kept) == task.samples, "too few samples are smooth: draw more"
    return replace(problem, observations=problem.observations[kept], generating_codes=None)


def smooth(problem, depth, margin=1e-6):
    """Return the indices of the samples of which no code comes within `margin` of its threshold, in
    any layer.

    Where a code is that close, programs differ in its support, and the gradient of each is right
    for its own.
    """
    threshold, codes = STEP * problem.penalty, problem.observations.new_zeros(problem.code_shape)
    kept = torch.ones(len(codes), dtype=torch.bool)
    for _ in range(depth):
        values = (
            codes
            - STEP * (codes @ problem.dictionary.T - problem.observations) @ problem.dictionary
        )
        kept &= ((values.abs() - threshold).abs() > margin).all(1)
        codes = softshrink(values, threshold)
    return kept.nonzero().squeeze(1)


def project(choice, task, dtype):
    """Return this package's gradients; each call makes its problem anew, as a training does."""
    given, algorithm = task.problem(dtype), pudle.Ista(step=None if task.exact else STEP)
    names = ("alternating", "backprop") if task.sweep else ("backprop",)
    if task.window:
        names = (f"truncated(window={task.window})",)
    estimators = [pudle.make_estimator(name) for name in names]

    def work():
        with patch.dict(os.environ, PUDLE_KERNELS=choice):
            problems = [replace(given, loss=loss) for loss in task.losses]
            return [
                estimate.gradient
                for problem in problems
                for estimator in estimators
                for estimate in estimator.sweep(problem, algorithm, task.depths)
            ]

    return work


def loss_at(problem, loss, codes, residual):
    """Return the outer loss, of arrays of any library."""
    total = 0.5 * (residual**2).sum()
    if loss == "lasso":
        total = total + problem.penalty * abs(codes).sum()
    return total / len(problem.observations)


def torch_autograd(task, dtype, compiled=False):
    """Return plain torch: a loop over the layers and `backward`; a sweep keeps the graph of its one
    forward pass. One layer may be compiled: torch's regional compilation, for blocks that repeat.
    """
    problem = task.problem(dtype)
    observations, threshold = problem.observations, STEP * problem.penalty

    def layer(codes, dictionary):
        slope = (codes @ dictionary.T - observations) @ dictionary
        return softshrink(codes - STEP * slope, threshold)

    if compiled:
        # Programs for other shapes count towards a limit, beyond which torch no longer compiles.
        torch.compiler.reset()
        layer = torch.compile(layer)

    def work():
        dictionary = problem.dictionary.clone().requires_grad_()
        codes = [observations.new_zeros(problem.code_shape)]
        for left in range(max(task.depths), 0, -1):
            outside = task.window and left > task.window
            codes.append(layer(codes[-1], dictionary.detach() if outside else dictionary))

        def gradient(loss, at):
            value = loss_at(problem, loss, at, at @ dictionary.T - observations)
            return torch.autograd.grad(value, dictionary, retain_graph=task.sweep)[0]

        direct = [True, False] if task.sweep else [False]
        every = itertools.product(task.losses, direct, task.depths)
        return [
            gradient(loss, codes[depth].detach() if fixed else codes[depth])
            for loss, fixed, depth in every
        ]

    return work


class Encoder(torch.nn.Module):
    """The layers of the PUDLE paper as a network: samples are columns, and every layer shares the
    weight.
    """

    def __init__(self, problem, depth):
        super().__init__()
        self.weight = torch.nn.Parameter(problem.dictionary.clone())
        self.depth, self.penalty = depth, problem.penalty

    def forward(self, observations):
        codes = observations.new_zeros(self.weight.shape[1], observations.shape[1])
        for _ in range(self.depth):
            residual = torch.matmul(self.weight, codes) - observations
            codes = codes - STEP * torch.matmul(self.weight.T, residual)
            codes = relu(codes.abs() - STEP * self.penalty) * codes.sign()
        return codes


def published_layers(task, dtype):
    """Return the paper's network and `backward`: a new forward pass for each depth and loss."""
    problem = task.problem(dtype)
    observations = problem.observations.T.contiguous()

    def gradient(loss, depth, through_codes):
        network = Encoder(problem, depth)
        codes = network(observations)
        codes = codes if through_codes else codes.detach()
        loss_at(problem, loss, codes, torch.matmul(network.weight, codes) - observations).backward()
        return network.weight.grad

    def work():
        ways = (False, True) if task.sweep else (True,)
        every = itertools.product(task.losses, ways, task.depths)
        return [gradient(loss, depth, way) for loss, way, depth in every]

    return work


def jax_scan(task, dtype):
    """Return JAX: the compiled gradient of a scan over the layers."""
    jax = peers.require("jax")
    problem, (depth,), (loss,) = task.problem(dtype), task.depths, task.losses
    penalty, shape = problem.penalty, problem.code_shape

    def value(dictionary, observations):
        def layer(codes, _):
            codes = codes - STEP * (codes @ dictionary.T - observations) @ dictionary
            return jax.numpy.sign(codes) * jax.numpy.maximum(abs(codes) - STEP * penalty, 0), None

        codes, _ = jax.lax.scan(layer, jax.numpy.zeros(shape, observations.dtype), length=depth)
        return loss_at(problem, loss, codes, codes @ dictionary.T - observations)

    compiled = jax.jit(jax.grad(value))
    double = dtype == torch.float64
    with jax.enable_x64(double):
        arrays = [
            jax.numpy.asarray(tensor.numpy())
            for tensor in (problem.dictionary, problem.observations)
        ]

    def work():
        with jax.enable_x64(double):
            return [torch.from_numpy(jax.device_get(compiled(*arrays)).copy())]

    return work


def dense_bound(task, dtype):
    """Return the matrix products alone that a dense gradient needs, two per layer forward and four
    backward; no gradient.
    """
    problem = task.problem(dtype)
    (depth,), dictionary = task.depths, problem.dictionary
    codes, residual = (
        torch.ones(problem.code_shape, dtype=dtype),
        torch.empty_like(problem.observations),
    )
    gradient, adjoint = torch.empty_like(dictionary), torch.empty_like(codes)

    def work():
        for _ in range(2 * depth):
            torch.mm(codes, dictionary.T, out=residual)
            torch.mm(residual, dictionary, out=adjoint)
            torch.mm(residual.T, codes, out=gradient)
        return []

    return work


def solved(task, dtype, warm=False):
    """Return the exact gradient by `active_set` and `analytic`, from zero codes, or from those of
    an earlier dictionary, 0.2 % away.
    """
    problem, initial = task.problem(dtype), None
    if warm:
        noise = torch.randn(problem.theta.shape, generator=torch.Generator().manual_seed(0))
        earlier = problem.theta + 0.002 * problem.theta.norm() * noise.to(dtype) / noise.norm()
        earlier = replace(problem, dictionary=earlier / earlier.norm(dim=0))
        initial = pudle.ActiveSet().run(earlier, STEPS).codes
    algorithm, estimator = pudle.ActiveSet(initial=initial), pudle.make_estimator("analytic")
    return lambda: [estimator.estimate(replace(problem), algorithm, STEPS).gradient]


def spams_and_formula(task, dtype):
    """Return the exact gradient of the lasso by the codes of SPAMS and Danskin's theorem."""
    lasso, problem = peers.require("spams").lasso, task.problem(dtype)
    samples, atoms = (np.asfortranarray(x) for x in (problem.observations.T, problem.dictionary))
    n_threads = torch.get_num_threads()
    options = {"lambda1": problem.penalty, "mode": 2, "numThreads": n_threads}

    def work():
        codes = lasso(samples, D=atoms, **options)
        residual = atoms @ codes - samples
        return [torch.from_numpy(codes @ residual.T / samples.shape[1]).T]

    return work


CONTENDERS = {
    "pudle": functools.partial(project, "numba"),
    "pudle, torch": functools.partial(project, "torch"),
    "JAX": jax_scan,
    "torch autograd": torch_autograd,
    "torch.compile": functools.partial(torch_autograd, compiled=True),
    "published layers": published_layers,
    "dense bound": dense_bound,
    "active_set": solved,
    "active_set, warm": functools.partial(solved, warm=True),
    "SPAMS": spams_and_formula,
}
