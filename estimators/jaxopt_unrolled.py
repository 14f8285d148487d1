"""Differentiation through the unrolled iterations by JAXopt, as a peer to measure against."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pudle import peers, specs
from pudle.algorithms import Algorithm, Fista
from pudle.algorithms.unrolling import check_depths, direct_gradients
from pudle.errors import UnsupportedProblem
from pudle.estimator import Estimate, GradientEstimator
from pudle.problems import Problem


@dataclass(frozen=True)
class JaxoptUnrolled(GradientEstimator):
    r"""Reverse-mode differentiation through T iterations of ``jaxopt.ProximalGradient``: the estimate of `backprop`.

    The iterations are JAXopt's own, accelerated for FISTA, at the algorithm's step; layer and loss are written in jax. Its
    stopping rule is turned off, so that all T layers count. FISTA with restart is refused: JAXopt has none.

    Cost: T layers forward and back, compiled anew for each T; stored are the tensors of all T layers.
    """

    name = "jaxopt_unrolled"
    references = ("Blondel et al., Efficient and Modular Implicit Differentiation, NeurIPS 2022",)
    computes = "unrolled"

    def fingerprint(self) -> str:
        return str(peers.versions("jax", "jaxlib", "jaxopt"))

    def estimate(self, problem: Problem, algorithm: Algorithm, depth: int) -> Estimate:
        (depth,) = check_depths([depth])
        problem = peers.check_treatable(self, problem, algorithm, "backprop", cpu_only=True)
        if getattr(algorithm, "restart", False) or algorithm.name not in ("fista", "ista"):
            raise UnsupportedProblem(
                f"{self.name} runs ISTA, or FISTA without restart, not {specs.text(algorithm)}: use backprop"
            )
        peers.require("jaxopt")
        step = algorithm.step_size(problem)
        initial = algorithm.start(problem).codes
        if depth == 0:
            # JAXopt runs one iteration at least.
            direct, _ = direct_gradients(problem, initial)
            return Estimate(direct, initial, {"layers": 0, "layers_differentiated": 0})
        with peers.jax_precision(initial.dtype):
            program = _program(depth, isinstance(algorithm, Fista), step, problem.loss, problem.nonnegative)
            arrays = peers.to_arrays((problem.dictionary, initial, problem.observations))
            gradient, codes = (peers.to_tensor(array) for array in program(*arrays, problem.penalty, problem.l2_penalty))
        return Estimate(gradient, codes, {"layers": depth, "layers_differentiated": depth})


# Bounded, because each depth compiles a program of its own, and each step.
@functools.lru_cache(maxsize=32)
def _program(depth: int, accelerated: bool, step: float, loss: str, nonnegative: bool) -> Callable[..., Any]:
    """Compile the gradient of the loss after `depth` iterations: it returns the gradient and the codes."""
    jax, jaxopt = peers.require("jax"), peers.require("jaxopt")

    def smooth(codes, dictionary, observations, l2_penalty):
        residual = codes @ dictionary.T - observations
        return 0.5 * (residual**2).sum() + 0.5 * l2_penalty * (codes**2).sum()

    def prox(values, penalty, scale):
        return peers.soft(values, scale * penalty, nonnegative)

    solver = jaxopt.ProximalGradient(
        smooth, prox, stepsize=step, maxiter=depth, tol=-1.0, acceleration=accelerated, implicit_diff=False
    )

    def value(dictionary, initial, observations, penalty, l2_penalty):
        codes = solver.run(initial, penalty, dictionary, observations, l2_penalty).params
        if loss == "reconstruction":
            total = smooth(codes, dictionary, observations, 0.0)
        else:
            total = smooth(codes, dictionary, observations, l2_penalty) + penalty * abs(codes).sum()
        return total / len(codes), codes

    return jax.jit(jax.grad(value, has_aux=True))
