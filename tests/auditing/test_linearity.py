"""A backward pass that is not linear in the gradient that comes in is wrong and named; precision,
solvers and chance make no right one look so.
"""

import runpy

import numpy as np
import pytest
import torch
from support.paths import ROOT

import pudle

PUBLISHED = runpy.run_path(str(ROOT / "examples" / "audit" / "published.py"))
drawn, function = PUBLISHED["drawn"], PUBLISHED["layer"]
X = drawn(6, seed=1)
MATRIX = drawn(6, 6, seed=2)
SYSTEM = MATRIX @ MATRIX.T / 6 + torch.eye(6).double()


def exponential(change):
    """Return an exponential whose backward pass changes the gradient that comes in."""
    return function(torch.exp, lambda incoming, output, _: change(incoming) * output)


def clipping_hook(inputs):
    output = inputs.sin()
    if output.requires_grad:
        output.register_hook(lambda incoming: incoming.clamp(-1, 1))
    return output


def clipped_row_by_row(incoming):
    return torch.stack([row * min(1.0, 1e3 / float(row.norm())) for row in incoming])


CLIPPED, THRESHOLDED = "clipped: ", "thresholded: "
#: Outputs so large that the usual gradient that comes in is below one, and one so small.
LARGE, SMALL = 1e3 * X, 1e-3 * X
NOT_LINEAR = {
    "hook": (clipping_hook, 0.1 * X, CLIPPED),
    "factor, then a bound": (
        function(lambda x: 10 * x, lambda d, *_: (10 * d).clamp(-1, 1)),
        LARGE,
        CLIPPED,
    ),
    "bounded by its norm": (
        exponential(lambda d: d * (1e4 / d.norm()).clamp(max=1)),
        X,
        CLIPPED,
    ),
    "bounded smoothly": (exponential(lambda d: 1e5 * (d / 1e5).tanh()), X, CLIPPED),
    "bounded from above": (exponential(lambda d: d.clamp(max=1e4)), X, CLIPPED),
    "bounded row by row": (exponential(clipped_row_by_row), drawn(4, 3), CLIPPED),
    "small entries dropped": (
        exponential(lambda d: torch.where(d.abs() < 1e-3, 0, d)),
        X,
        THRESHOLDED,
    ),
    "shrunk": (exponential(lambda d: d.sign() * (d.abs() - 1e-4).relu()), X, THRESHOLDED),
    "rounded to a grid": (
        exponential(lambda d: (d * 2**20).round() / 2**20),
        X,
        THRESHOLDED,
    ),
    "in float32": (
        lambda x: exponential(lambda d: d.clamp(-9, 9))(x.float()).double(),
        X,
        CLIPPED,
    ),
    "normalized": (exponential(lambda d: d / d.norm()), X, "does not multiply by"),
    "squared": (
        exponential(lambda d: d * (1 + 1e-5 * d.abs())),
        X,
        "not linear in the gradient",
    ),
}


@pytest.mark.parametrize("layer, inputs, name", NOT_LINEAR.values(), ids=NOT_LINEAR)
def test_a_backward_pass_that_is_not_linear_is_wrong(layer, inputs, name) -> None:
    audited = pudle.audit(layer, inputs)
    assert audited.verdict == "wrong" and name in audited.mistake, audited
    assert not audited.passes(1.0)


def test_the_size_at_which_a_gradient_is_wrong_is_said() -> None:
    audited = pudle.audit(*NOT_LINEAR["small entries dropped"][:2])
    assert audited.error == pytest.approx(1, abs=1e-6)
    assert "agrees to" in str(audited)
    assert "off by 1 of its norm where the gradient that comes in is 1e-6 times" in str(audited)


def test_one_input_of_two_is_named() -> None:
    def backward(incoming, _, first, second):
        return incoming * second, (incoming * first).clamp(-1e3, 1e3)

    product = function(torch.mul, backward)
    worst, second = pudle.audit(product, X, X + 3).parts
    assert (worst.name, worst.verdict) == ("input 1", "wrong") and second.verdict == "right"


def test_a_backward_pass_that_is_right_for_one_sign_alone_is_not_linear() -> None:
    # Of any positive size it is right, and the loss has no other.
    guided = function(torch.exp, lambda d, z, _: d.relu() * z)
    audited = pudle.audit(guided, torch.tensor(0.3).double(), loss=lambda z: z)
    assert audited.verdict == "wrong" and "not linear in the gradient" in audited.mistake, audited
    assert "for a sum of two gradients" in str(audited)


def conjugate_gradients(right_hand_side, tolerance):
    """Solve a system until the residual is below an absolute tolerance."""
    solution, residual = torch.zeros_like(right_hand_side), right_hand_side
    direction, square = residual, residual @ residual
    while square.sqrt() > tolerance:
        product = SYSTEM @ direction
        length = square / (direction @ product)
        solution, residual = solution + length * direction, residual - length * product
        square, before = residual @ residual, square
        direction = residual + square / before * direction
    return solution


def solving_to(tolerance):
    """Return a linear solver whose backward pass stops at an absolute tolerance."""
    return function(
        lambda x: torch.linalg.solve(SYSTEM, x), lambda d, *_: conjugate_gradients(d, tolerance)
    )


def multiplied_in_place(incoming, output, _):
    """Return the gradient in the memory of the output, which is not needed again."""
    return output.mul_(incoming)


def rarely_noisy():
    """Return a layer whose gradient is off now and then, as by a race."""
    random = np.random.default_rng(0)
    return exponential(lambda d: d * (1 + (random.random() < 0.3)))


def cast(dtype):
    return lambda x: (3 * x).to(dtype).sigmoid().double()


def autocast(x):
    with torch.autocast("cpu", torch.bfloat16):
        return (x.float() @ MATRIX.float()).relu().double()


#: Of each, a linear backward pass returns something else at another size, for another reason.
LINEAR = {
    "tolerance 1e-2": (solving_to(1e-2), X),
    "tolerance 1e-9": (solving_to(1e-9), X),
    "float16": (cast(torch.float16), X),
    "float16, saturated": (cast(torch.float16), 4 * X),
    "float16, large": (lambda x: (2e3 * x).half().double(), X),
    "float16, small": (lambda x: (x.half() * 1e-4).double(), X),
    "bfloat16": (cast(torch.bfloat16), X),
    "float32, nearly overflowing": (lambda x: (x.float() * 1e35).double(), X),
    "float32, nearly underflowing": (lambda x: (x.float() * 1e-36).double(), X),
    "float32, exponential of a block matrix": (
        lambda x: torch.linalg.matrix_exp(x.float()).double(),
        MATRIX,
    ),
    "mixed precision": (autocast, X),
    "saturated": (lambda x: torch.sigmoid(40 * x), X),
    "sums of next to nothing": (lambda x: x.softmax(0).sum() * torch.ones(3).double(), X),
    "in place": (function(torch.exp, multiplied_in_place), X),
    "now and then": (rarely_noisy(), X),
    "noisy": (exponential(lambda d: d * (1 + 1e-5 * torch.randn(d.shape).double())), X),
    "dropout": (torch.nn.Dropout(), X),
    "float16 alone": (torch.nn.Linear(6, 3).half(), X.half()),
    "straight through": (lambda x: x + (x.round() - x).detach(), X),
}


@pytest.mark.parametrize("layer, inputs", LINEAR.values(), ids=LINEAR)
def test_what_is_linear_but_inexact_is_not_called_clipped(layer, inputs) -> None:
    audited = pudle.audit(layer, inputs)
    for word in ("clipped", "thresholded", "not linear", "does not multiply"):
        assert word not in str(audited), audited


def half_precision(seed, dtype, activation):
    """Return a right layer of two matrices in half precision, and inputs drawn with a seed."""
    first, second = drawn(2, 3, seed=seed), drawn(3, 2, seed=seed + 1000)

    def layer(inputs):
        hidden = activation(inputs.to(dtype) @ first.to(dtype))
        return activation(hidden @ second.to(dtype)).double()

    return layer, drawn(1, 2, seed=seed + 2000)


@pytest.mark.parametrize(
    "dtype, activation",
    [
        # Most of its derivatives are below the smallest numbers of float16, or barely above.
        (torch.float16, lambda values: torch.sigmoid(30 * values)),
        # A sum of two gradients that nearly cancel is rounded to three digits before.
        (torch.bfloat16, torch.nn.functional.hardtanh),
    ],
    ids=["float16 that underflows", "bfloat16"],
)
def test_rounding_in_half_precision_is_not_taken_for_a_backward_pass_that_is_not_linear(
    dtype, activation
) -> None:
    for seed in range(40):
        audited = pudle.audit(*half_precision(seed, dtype, activation))
        assert audited.verdict != "wrong", (seed, audited)


def test_a_gradient_that_is_clipped_after_half_precision_is_still_seen() -> None:
    clip = function(torch.clone, lambda incoming, *_: incoming.clamp(-1, 1))
    audited = pudle.audit(lambda x: clip(cast(torch.bfloat16)(x)), X)
    assert audited.verdict == "wrong", audited
