"""States that hold more than the codes: what is differentiated, detached and refused."""

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from support.oracles import tolerances
from support.oracles.comparisons import refusal, relative
from support.problems.small_problems import sparse_problem

import pudle
from pudle.algorithms import State
from pudle.algorithms.unrolling import Adjoints, pull_back, unrolled_gradient


@dataclass(frozen=True, eq=False)
class Averaged(State):
    """Codes, and two running averages of them; a mask and a list are no part of the graph."""

    slow: Any = None
    fast: Any = None
    mask: Any = None
    seen: Any = ()
    scale: Any = field(default=1.0, metadata={"constant": True})


@dataclass(frozen=True)
class Averaging(pudle.Algorithm):
    """Gradient steps from a mixture of two averages, so that all the memory counts."""

    name = "averaging"

    def start(self, problem, initial=None):
        codes = super().start(problem, initial).codes
        return Averaged(
            codes, codes, slow=codes, fast=codes, seen=(0,), scale=torch.ones(1).to(codes)
        )

    def advance(self, problem, state, step):
        point = 0.5 * state.slow + 0.5 * state.fast
        codes = self.proximal_step(problem, point, step, state.iteration)
        slow, fast = 0.8 * state.slow + 0.2 * codes, state.scale * (0.3 * state.fast + 0.7 * codes)
        mask, seen = codes != 0, (*state.seen, state.iteration)
        return Averaged(codes, point, 1.0, state.iteration + 1, slow, fast, mask, seen, state.scale)


@pytest.fixture
def problem(loss):
    return sparse_problem(loss, n=8, m=6, p=9)


def by_hand(problem, algorithm, depth, constant_layers=0):
    theta, step = problem.dictionary.clone().requires_grad_(), algorithm.step_size(problem)
    live, state = problem.with_theta(theta), algorithm.start(problem)
    # Layers at the problem's own theta, which needs no gradient, are constants.
    for layer in range(depth):
        state = algorithm.advance(problem if layer < constant_layers else live, state, step)
    return torch.autograd.grad(live.outer_loss(state.codes), theta)[0]


@pytest.mark.parametrize(
    "spec", ["backprop", "forward", *(f"checkpointed(segments={count})" for count in (1, 3, 11))]
)
def test_all_tensors_carry_derivatives(problem, spec):
    estimate = pudle.make_estimator(spec).estimate(problem, Averaging(), 11)
    assert (
        relative(estimate.gradient, by_hand(problem, Averaging(), 11)) < tolerances.SAME_ARITHMETIC
    )


@pytest.mark.parametrize("window", [1, 2, 7])
def test_all_tensors_are_detached_before_a_window(problem, window):
    expected = by_hand(problem, Averaging(), 11, 11 - window)
    truncated = pudle.make_estimator(f"truncated(window={window})")
    state = Averaging().run(problem, 11 - window).states[11 - window]
    for gradient in (
        truncated.estimate(problem, Averaging(), 11).gradient,
        unrolled_gradient(problem, Averaging(), state, window)[0],
    ):
        assert relative(gradient, expected) < tolerances.SAME_ARITHMETIC


def test_adjoints_are_named_and_fields_that_share_a_tensor_count_once(problem):
    """A whole pull-back from the start: all fields of the first state are one tensor of codes."""
    algorithm, step = Averaging(), Averaging().step_size(problem)
    start = algorithm.start(problem)
    initial = (0.1 + start.codes).requires_grad_()
    state = Averaged(initial, initial, slow=initial, fast=initial, scale=start.scale)
    for _ in range(3):
        state = algorithm.advance(problem, state, step)
    expected = torch.autograd.grad(problem.outer_loss(state.codes), initial)[0]
    codes = state.codes.detach().requires_grad_()
    (slope,) = torch.autograd.grad(problem.outer_loss(codes), codes)
    first = initial.detach()
    begin = Averaged(first, first, slow=first, fast=first, scale=start.scale)
    back = pull_back(
        problem,
        algorithm,
        begin,
        3,
        step,
        Adjoints(torch.zeros_like(problem.theta), {"codes": slope}),
    )
    assert set(back.state) == {"codes"}
    assert relative(back.state["codes"], expected) < tolerances.SAME_ARITHMETIC


def test_collections_of_tensors_are_refused(problem):
    codes = problem.initial_codes()
    for collection in ((codes,), [codes], {"one": codes}):
        text = refusal(
            lambda collection=collection: Averaged(codes, codes, seen=collection).detach()
        )
        assert "Averaged.seen" in text and "a field of its own" in text
