"""Differentiation through the unrolled iterations by JAXopt, a peer to measure against."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

from pudle import names, peers
from pudle.algorithms import Algorithm, Fista
from pudle.algorithms.requirements import Need
from pudle.algorithms.unrolling import check_depths, direct_gradients
from pudle.estimator import Estimate, Problem
from pudle.peers import Array
from pudle.problems import SparseCoding

PLAIN_LAYERS = Need(
    "ISTA, or FISTA without restart",
    lambda _, algorithm: (
        None
        if algorithm.name in ("fista", "ista") and not getattr(algorithm, "restart", False)
        else names.text(algorithm)
    ),
)
NAMED_LOSS = Need(
    "a named loss",
    lambda problem, _: "a function" if callable(getattr(problem, "loss", None)) else None,
)


@dataclass(frozen=True)
class JaxoptUnrolled(peers.Peer):
    r"""Reverse-mode differentiation through T iterations of ``jaxopt.ProximalGradient``: the
    estimate of `backprop`.

    The iterations are JAXopt's own, accelerated for FISTA, at the algorithm's step; layer and loss
    are written in jax. Its stopping rule is turned off, so that all T layers count. FISTA with
    restart is refused, because JAXopt has none.

    Cost: T layers forward and back, compiled anew for each T; stored are the tensors of all T
    layers.
    """

    name = "jaxopt_unrolled"
    references = (
        "Blondel, Berthet, Cuturi, Frostig, Hoyer, Llinares-López, Pedregosa and Vert, Efficient"
        " and Modular Implicit Differentiation, NeurIPS 2022",
    )
    computes = "unrolled"
    distributions = ("jax", "jaxlib", "jaxopt")
    needs = (PLAIN_LAYERS, NAMED_LOSS, *peers.Peer.needs, peers.ON_CPU)

    def estimate(self, problem: Problem, algorithm: Algorithm, depth: int) -> Estimate:
        """Run JAXopt's iterations from the algorithm's start and differentiate through them; at
        depth zero the gradient is the direct part.
        """
        assert isinstance(problem, SparseCoding)  # as `needs` says
        (depth,) = check_depths([depth])
        codes = algorithm.start(problem).codes
        if depth == 0:
            # JAXopt runs one iteration at least.
            gradient, _ = direct_gradients(problem, codes)
        else:
            gradient, codes = peers.run_jax(
                _program(depth, isinstance(algorithm, Fista), problem.loss, problem.nonnegative),
                problem.dictionary,
                codes,
                problem.observations,
                constants=(algorithm.step_size(problem), problem.penalty, problem.l2_penalty),
            )
        return Estimate(gradient, codes, {"layers": depth, "layers_differentiated": depth})


# Bounded, because each depth compiles a program of its own. The step is an argument of it, so that
# a case's seeds share one.
@functools.lru_cache(maxsize=64)
def _program(
    depth: int, accelerated: bool, loss: object, nonnegative: bool
) -> Callable[..., Array]:
    """Compile the gradient of the loss after `depth` iterations; the program also returns the
    codes.

    It takes dictionary, initial codes, observations, step, penalty and l2 penalty. Programs are
    kept for the process, 64 at most. Imports jax and jaxopt.
    """
    jax, jaxopt = peers.require("jax"), peers.require("jaxopt")

    def smooth(codes: Array, dictionary: Array, observations: Array, l2_penalty: Array) -> Array:
        residual = codes @ dictionary.T - observations
        return 0.5 * (residual**2).sum() + 0.5 * l2_penalty * (codes**2).sum()

    def prox(values: Array, penalty: Array, scale: Array) -> Array:
        return peers.soft(values, scale * penalty, nonnegative)

    def value(
        dictionary: Array,
        initial: Array,
        observations: Array,
        step: Array,
        penalty: Array,
        l2_penalty: Array,
    ) -> Array:
        """Return the loss after the iterations, and the codes."""
        solver = jaxopt.ProximalGradient(
            smooth,
            prox,
            stepsize=lambda _: step,
            maxiter=depth,
            tol=-1.0,
            acceleration=accelerated,
            implicit_diff=False,
        )
        codes = solver.run(initial, penalty, dictionary, observations, l2_penalty).params
        if loss == "reconstruction":
            penalty = l2_penalty = 0.0
        total = smooth(codes, dictionary, observations, l2_penalty) + penalty * abs(codes).sum()
        return total / len(codes), codes

    compiled: Callable[..., Array] = jax.jit(jax.grad(value, has_aux=True))
    return compiled
