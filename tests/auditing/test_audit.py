"""Planted mistakes are called wrong and named; right layers in unusual styles never are."""

import functools
import inspect
import operator
import os
import re
import runpy
import time
from collections.abc import Callable
from pathlib import Path

import mpmath
import numpy as np
import pytest
import torch
from scipy.optimize import bisect
from scipy.sparse.linalg import cg
from support.paths import ROOT
from support.processes.commands import call, run

import pudle
from pudle.auditing.command import audit_target
from pudle.auditing.mistakes import LikelyMistakes, Mistake, MistakeKind, likeliest
from pudle.measuring.case import Case
from pudle.testing import assert_gradient
from pudle.workers import Process

PUBLISHED = runpy.run_path(str(ROOT / "examples" / "audit" / "published.py"))
drawn, function = PUBLISHED["drawn"], PUBLISHED["layer"]

N = 6
J = 0.3 * drawn(N, N)
EYE = torch.eye(N).double()
H = EYE - J
X, BATCH, SQUARE = drawn(N, seed=1), drawn(4, N, seed=2), drawn(N, N, seed=3)
SYMMETRIC = SQUARE @ SQUARE.T + EYE
INVERSE, MANY = torch.linalg.inv(H), drawn(40, seed=6)


#: Returns the audit of a layer, to be called.
case = functools.partial(functools.partial, pudle.audit)


def exp(backward):
    """Return an exponential with the gradient ``backward(d, z)``."""
    return function(torch.exp, lambda d, z, _: backward(d, z))


def equation(z, x):
    """The residual of a layer that is linear in its input."""
    return z @ H.T - x


def linear(inverse):
    """Return the layer that solves it, with an inverse for its backward pass."""
    return function(lambda x: x @ INVERSE.T.to(x), lambda d, *_: d @ inverse)


def in_numpy(transposed):
    """Return the layer that solves `equation` in numpy, and with H^T for its gradient."""
    solve = np.linalg.solve
    return pudle.adapt.from_numpy(
        lambda x: solve(H.numpy(), x), lambda w, _: solve(transposed.numpy(), w)
    )


def tanh_step(z, x):
    return torch.tanh(z @ J.T + x)


def iterated(x, steps=100, step=tanh_step):
    z = torch.zeros_like(x)
    for _ in range(steps):
        z = step(z, x)
    return z


def tanh_adjoint(d, z, x, transpose=True, terms=None, slope=None):
    """Return the implicit gradient of the fixed point of `tanh_step`."""
    slope = 1 - tanh_step(z, x) ** 2 if slope is None else slope
    jacobian = slope[..., None] * J
    jacobian = jacobian.mT if transpose else jacobian
    if terms is None:
        return slope * torch.linalg.solve(EYE - jacobian, d[..., None])[..., 0]
    total = d
    for _ in range(terms - 1):
        total = d + (jacobian @ total[..., None])[..., 0]
    return slope * total


def equilibrium(solution=iterated, **options):
    return function(solution, functools.partial(tanh_adjoint, **options))


def stale(call):
    """Return a layer whose gradient uses what it found in one of its calls."""
    slopes = []

    def solution(x):
        z = iterated(x)
        slopes.append(1 - z**2)
        return z

    return function(solution, lambda *arguments: tanh_adjoint(*arguments, slope=slopes[call]))


def in_jax(transposed, steps=200):
    """Return the layer that iterates `equation` in JAX, and solves with H^T for its gradient."""
    jax = pytest.importorskip("jax", reason="needs the extra peers")

    @jax.custom_vjp
    def solve(x):
        return jax.lax.fori_loop(0, steps, lambda _, z: J.numpy() @ z + x, 0 * x)

    solve.defvjp(
        lambda x: (solve(x), None),
        lambda _, w: (jax.numpy.linalg.solve(transposed.numpy(), w),),
    )
    return pudle.adapt.from_jax(jax.jit(solve))


def kept_graph(x):
    """A deep-equilibrium layer whose solver is differentiated as well."""
    z = iterated(x)
    jacobian = (1 - z.detach() ** 2)[:, None] * J
    z.register_hook(lambda d: torch.linalg.solve(EYE - jacobian.T, d))
    return z


def accumulating():
    gradients = []

    def backward(d, z):
        gradients.append(d * z)
        return sum(gradients)

    return backward


class Rereading(torch.nn.Linear):
    """A module whose backward pass reads its parameters once more."""

    def forward(self, x):
        def backward(d, z, x, weight):
            x = x.detach().requires_grad_()
            with torch.enable_grad():
                z = torch.sin(x @ self.weight.T)
            return torch.autograd.grad(z, (x, weight), d, materialize_grads=True)

        return function(lambda x, weight: torch.sin(x @ weight.T), backward)(x, self.weight)


TRANSPOSED = function(torch.sin, lambda d, z, x: (d * x.cos()).T)
#: What a mistake is called, and a layer that has it; more are published, see test_published.py.
WRONG = {
    # At zero, where a mistaken one may take it, this equation has no Jacobian.
    "sign": ("negated", case(exp(lambda d, z: -d * z), X, residual=lambda z, x: z.log() - x)),
    "factor n": (
        "sum over 4",
        case(function(lambda x: (x**2).mean(0), lambda d, z, x: 2 * d * x), BATCH),
    ),
    "not transposed, in numpy": ("transpose", case(in_numpy(H), X, residual=equation)),
    "not transposed, in JAX": (
        "transpose",
        lambda: pudle.audit(in_jax(H), X, residual=equation),
    ),
    "minimum norm": (
        "minimum-norm solve",
        case(linear(torch.linalg.pinv(H, rtol=0.4)), X, residual=equation),
    ),
    "one step": ("not solved", case(equilibrium(terms=1), X, step=tanh_step)),
    "phantom": (
        "2 terms",
        case(lambda x: tanh_step(tanh_step(iterated(x).detach(), x), x), X, step=tanh_step),
    ),
    "kept graph": ("twice", case(kept_graph, X, step=tanh_step)),
    "plus for minus": ("I + 1 J", case(linear(torch.linalg.inv(EYE + J)), X, residual=equation)),
    "first sample": (
        "ignored: 18 of 24",
        case(exp(lambda d, z: torch.cat([d[:1] * z[:1], 0 * d[1:]])), BATCH),
    ),
    "lower half": (
        "half of a symmetric",
        case(
            function(torch.linalg.det, lambda d, z, x: d * z * torch.linalg.inv(x).T.tril()),
            SYMMETRIC,
        ),
    ),
    "transposed, at the identity": ("transposed", case(TRANSPOSED, EYE)),
    "not conjugated": (
        "",
        case(function(torch.square, lambda d, z, x: 2 * d * x), torch.complex(X, X)),
    ),
    "exchanged": (
        "exchanged with the gradient in input 0",
        case(
            function(lambda x, y: x.sin() * y, lambda d, z, x, y: (d * x.sin(), d * y * x.cos())),
            BATCH,
            BATCH + 1,
            wrt=(0, 1),
        ),
    ),
    "stale by the next call": ("stale", case(stale(-1), X, step=tanh_step)),
    "stale by the next call, alone": ("stale", case(stale(-1), X)),
    "stale first call": ("stale", case(stale(0), X, step=tanh_step)),
    "float32": ("float32", case(exp(lambda d, z: (d * z).float().double()), BATCH)),
    "random": (
        "not deterministic",
        case(exp(lambda d, z: d * z * (1 + 0.1 * torch.randn(z.shape).double())), BATCH),
    ),
    "softmax without its second term": (
        "on other entries",
        case(function(lambda x: x.softmax(-1), lambda d, z, x: d * z), BATCH),
    ),
    "clipped": ("clipped", case(exp(lambda d, z: d.clamp(-1, 1) * z), BATCH)),
    "straight through": ("not zero where outputs", case(function(torch.round, lambda d, *_: d), X)),
    "NaN": ("", case(lambda x: torch.where(x > 0, x.sqrt(), x), X)),
    "clamp": (
        "not zero where outputs",
        case(function(lambda x: (SQUARE @ x).clamp(-1, 1), lambda d, *_: d @ SQUARE), X),
    ),
    "wrong axis": (
        "wrong places",
        case(function(torch.add, lambda d, z, x, b: (d, d.sum(1))), SQUARE, X, wrt=1),
    ),
    "chain rule": (
        "entry of the input has a factor",
        case(function(lambda x: torch.outer(MANY, x.exp()), lambda d, z, x: MANY @ d), X),
    ),
    "slope of the input": (
        "row of the equation's derivative",
        case(
            function(
                lambda x: iterated(SQUARE @ x),
                lambda d, z, x: (tanh_adjoint(d, z, SQUARE @ x) / (1 - z**2)) @ SQUARE,
            ),
            X,
            step=lambda z, x: tanh_step(z, SQUARE @ x),
        ),
    ),
    "last entry": (
        "entry 299 alone",
        case(exp(lambda d, z: d * z * (torch.arange(300) < 299)), drawn(300)),
    ),
    "mean as a constant": (
        "a term is missing or has another factor",
        case(lambda x: (x - x.mean(0).detach()) @ SQUARE, BATCH),
    ),
    "accumulated": ("accumulated", case(exp(accumulating()), BATCH)),
    "a bias that is summed twice": (
        "factor 1/2 is missing",
        case(function(torch.add, lambda d, z, x, b: (d, 2 * d.sum(0))), BATCH, X, wrt=(0, 1)),
    ),
}


@pytest.mark.parametrize("mistake, audited", WRONG.values(), ids=WRONG)
def test_planted_mistakes_are_called_wrong_and_named(mistake, audited) -> None:
    report = audited()
    assert report.verdict == "wrong", report
    assert mistake in report.mistake, report


def cached(tolerance=1e-12):
    """Return a layer that keeps every solution it has found, and starts from the last."""
    solutions = {b"": torch.zeros(N).double()}

    def solution(x):
        key = x.numpy().tobytes()
        if key not in solutions:
            z = [*solutions.values()][-1]
            while ((new := tanh_step(z, x)) - z).norm() > tolerance * new.norm():
                z = new
            solutions[key] = new
        return solutions[key]

    return equilibrium(solution)


def loose(tolerance, matrix):
    """Return a layer that solves a symmetric system to a relative residual, forth and back."""

    def solve(right):
        return torch.as_tensor(cg(matrix.numpy(), right.numpy(), rtol=tolerance)[0])

    return function(solve, lambda d, *_: solve(d))


def residual_of(matrix):
    return lambda z, x: z @ matrix - x


def complex_step(d, z, x):
    """Return the gradient of an elementwise function by a complex step."""
    return d * torch.exp(torch.complex(x, torch.full_like(x, 1e-30))).imag / 1e-30


def ill_conditioned(exponent):
    q = torch.linalg.qr(SYMMETRIC)[0]
    return q * torch.logspace(0, -exponent, N).double() @ q.T


def bisected(x):
    """Return the root of z + z^3 = x by bisection."""
    return x.clone().apply_(lambda x: bisect(lambda z: z + z**3 - x, -9, 9, xtol=1e-15))


BISECTION = function(bisected, lambda d, z, x: d / (1 + 3 * z**2))
MODULE = torch.nn.Sequential(torch.nn.Linear(N, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2))
SLOW = drawn(40, 40, seed=5)
SLOW = SLOW @ SLOW.T / 40 + 0.05 * torch.eye(40)
BAD, WORSE = ill_conditioned(6), ill_conditioned(8)

RIGHT = {
    "complex step": case(function(torch.exp, complex_step), BATCH),
    "JAX": lambda: pudle.audit(in_jax(H.T), X, residual=equation),
    "JAX, few steps, alone": lambda: pudle.audit(in_jax(H.T, 6), X),
    "transposed input": case(torch.sin, drawn(N, 4).T),
    "strided input": case(torch.sin, drawn(4, 2 * N)[:, ::2]),
    "no samples": case(torch.nn.Linear(N, 2).double(), drawn(0, N), wrt=("weight", 0)),
    "scalar": case(torch.exp, torch.tensor(0.7)),
    "float32": case(torch.sin, BATCH.float()),
    "float64 alone": case(lambda x: H @ x, X.float()),
    "symmetric by convention": case(
        function(lambda q: q @ X, lambda d, *_: (torch.outer(d, X) + torch.outer(X, d)) / 2),
        SYMMETRIC,
    ),
    "float32 inside": case(lambda x: x.float().sin().double(), BATCH),
    "module": case(MODULE, BATCH.float(), wrt=(0, "0.weight", "2.bias")),
    "module that reads its parameters again": case(Rereading(N, 2, bias=False), BATCH),
    "state that goes on": case(
        torch.nn.utils.parametrizations.spectral_norm(torch.nn.Linear(N, 2)), BATCH
    ),
    "changes its input": case(lambda x: x.mul_(2).sin(), X),
    "NaN where no derivative is": case(torch.linalg.eigh, EYE),
    "kink": case(torch.relu, torch.tensor([0.0, 1.0, -2.0]).double()),
    "sort": case(lambda x: x.sort().values, X),
    "Cholesky": case(torch.linalg.cholesky, SYMMETRIC),
    "dropout": case(torch.nn.Dropout(), BATCH),
    "constant": case(torch.round, BATCH),
    "several outputs": case(
        lambda x, y: {"a": x * y, "b": (x.sum(), y.exp())}, X, X + 1, wrt=(0, 1)
    ),
    "loss of the input": case(
        linear(INVERSE), X, residual=equation, loss=lambda z, x: (z**3).sum() + (x * z).sum()
    ),
    "wide": case(lambda x: (x @ x).sin(), drawn(100, 100, seed=8)),
}
#: Layers that solve an equation, which are right alone as well.
SOLVERS = {
    "closed form": (linear(INVERSE), X, {"residual": equation}),
    "numpy": (in_numpy(H.T), X, {"residual": equation}),
    "cached": (cached(), X, {"step": tanh_step}),
    "cached, loose": (cached(1e-3), X, {"step": tanh_step}),
    "unrolled, few steps": (lambda x: iterated(x, 6), X, {"step": tanh_step}),
    "one sample": (iterated, drawn(1, N), {"step": tanh_step}),
    "bisection": (BISECTION, X, {"residual": lambda z, x: z + z**3 - x}),
    "ill-conditioned": (
        lambda x: torch.linalg.solve(WORSE, x),
        X,
        {"residual": residual_of(WORSE)},
    ),
}
SOLVERS |= {
    f"loose {tolerance}, {name}": (loose(tolerance, matrix), x, {"residual": residual_of(matrix)})
    for name, matrix, x, *tolerances in (
        ("usual", SYMMETRIC, X, 1e-3),
        ("ill-conditioned", BAD, X, 1e-3),
        ("slow", SLOW, MANY, 1e-2, 1e-3, 1e-6),
    )
    for tolerance in tolerances
}
for name, (layer, x, options) in SOLVERS.items():
    RIGHT |= {name: case(layer, x, **options), f"{name}, alone": case(layer, x)}


@pytest.mark.parametrize("audited", RIGHT.values(), ids=RIGHT)
def test_right_layers_are_never_called_wrong(audited) -> None:
    report = audited()
    assert report.verdict != "wrong", report
    if report.mistake and report.verdict != "right":
        assert report.mistake.startswith(("a truncated series", "not deterministic")), report


def test_the_error_is_the_distance_from_the_closed_form() -> None:
    # With the implicit gradient, the whole vector; alone, here as well, all of six coordinates.
    weights = drawn(N, seed=9)
    exact, gradient = INVERSE.T @ weights, INVERSE @ weights
    error = float((gradient - exact).norm() / exact.norm())
    for options in ({"residual": equation}, {}):
        report = pudle.audit(linear(INVERSE.T), X, loss=lambda z: weights @ z, **options)
        assert report.error == pytest.approx(error, rel=1e-6)
    with pytest.raises(AssertionError, match="mistake: a solve with the Jacobian"):
        pudle.testing.assert_gradient(linear(INVERSE.T), X, residual=equation)
    pudle.testing.assert_gradient(linear(INVERSE), X, residual=equation)


#: Right layers of all styles that take few milliseconds, with and without an equation.
QUICK = ["complex step", "numpy, alone", "cached, loose", "cached, loose, alone", "float32"]
QUICK += ["ill-conditioned", "ill-conditioned, alone", "bisection", "kink", "sort", "Cholesky"]


@pytest.mark.parametrize("seeds", [3, pytest.param(200, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("name", QUICK)
def test_no_seed_calls_a_right_layer_wrong(name: str, seeds: int) -> None:
    for seed in range(seeds):
        report = RIGHT[name](seed=seed)
        assert report.verdict != "wrong", (seed, report)


@pytest.mark.parametrize("unit", [1e-8, 1e8])
@pytest.mark.parametrize("equation", ["step", "residual", None])
def test_verdicts_depend_on_neither_units_nor_the_order_of_the_batch(
    unit: float, equation: str | None
) -> None:
    def step(z, x):
        return unit * tanh_step(z / unit, x.flip(0) / unit)

    def layer(sign):
        def backward(d, z, x):
            return sign * tanh_adjoint(d, z / unit, x.flip(0) / unit).flip(0)

        return function(lambda x: iterated(x, step=step), backward)

    options = {"step": step, "residual": lambda z, x: unit**2.5 * (z - step(z, x))}
    options = {equation: options[equation]} if equation else {}
    assert pudle.audit(layer(1), unit * BATCH[:2], **options).verdict == "right"
    report = pudle.audit(layer(-1), unit * BATCH[:2], **options)
    assert (report.verdict, report.mistake) == ("wrong", "negated")


def inverse(matrix):
    """Return the entries of the inverse of a matrix of two columns, of any library."""
    (a, b), (c, d) = matrix
    return [entry / (a * d - b * c) for entry in (d, -b, -c, a)]


def singular(distance):
    return torch.tensor([[1, 2], [3, 6 + distance]], dtype=torch.float64)


#: Layers whose entries need steps of their own, as functions of any library, and their inputs.
EXTREME = {
    "wave": (lambda v, lib: [lib.sin(v[0] * v[1])], [1000, 7e-4]),
    "reciprocal": (lambda v, _: [1 / entry for entry in v], [1, 1e-7]),
    "saturated": (lambda v, lib: [lib.tanh(1e7 * entry) for entry in v], [1e-9, 1]),
    "normalized": (lambda v, _: [e / (abs(e) + 1e-8) for e in v], [1, 1e-9, -3e-9]),
    "exponential": (lambda v, lib: [lib.exp(entry) for entry in v], [-30, 0.1, 20]),
    "inverse": (lambda v, _: inverse(v), singular(1e-3)),
    "ill-conditioned": (lambda v, _: inverse(v), singular(1e-6)),
}


@pytest.mark.parametrize("name", EXTREME)
def test_a_truth_is_as_exact_as_it_says(name: str) -> None:
    layer, inputs = EXTREME[name]
    inputs = torch.as_tensor(inputs, dtype=torch.float64)
    report = pudle.audit(
        lambda v: torch.stack(layer(v, torch)), inputs, loss=lambda z: (z * drawn(len(z))).sum()
    )
    assert report.verdict == "right", report

    def value(*entries):
        rows = [entries[:2], entries[2:]] if inputs.ndim == 2 else entries
        made_exactly = layer(rows, mpmath)
        return sum(map(operator.mul, made_exactly, drawn(len(made_exactly)).tolist()))

    with mpmath.workdps(60):
        entries = inputs.flatten().tolist()
        orders = np.eye(len(entries), dtype=int).tolist()
        exact = np.array([float(mpmath.diff(value, entries, order)) for order in orders])
    exact *= 2.0 ** np.floor(np.log2(np.mean(np.square(inputs.numpy())) ** 0.5))
    expected = report.parts[0].expected
    assert np.linalg.norm(exact - expected.values) <= expected.uncertainty * np.linalg.norm(exact)


def test_an_entry_that_is_wrong_where_steps_must_be_small_is_seen() -> None:
    small = torch.tensor([1, -2, 1e-8, -1e-8]).double()
    root = lambda v: (v**2 + 1e-16).sqrt()  # noqa: E731
    factors = torch.tensor([1, 1, -7, -7])
    assert pudle.audit(function(root, lambda d, z, v: d * v / z), small).verdict == "right"
    report = pudle.audit(function(root, lambda d, z, v: d * factors * v / z), small)
    assert report.verdict == "wrong"
    soft = lambda v: v.sign() * (v.abs() - 1).relu()  # noqa: E731
    near = torch.tensor([1 - 1e-7, 2, -3, 1e-7 - 1]).double()
    assert pudle.audit(soft, near).verdict == "right"
    assert pudle.audit(function(soft, lambda d, *_: d), near).verdict == "wrong"


def test_an_entry_that_is_not_seen_is_named() -> None:
    report = pudle.audit(torch.relu, torch.tensor([[1, 0.0], [0, -2]]).double())
    assert report.verdict == "undecided" and "at [0, 1], [1, 0]: a kink" in repr(report)
    # Rounding makes no other whole numbers.
    report = pudle.audit(lambda x: x * torch.ones_like(x).floor() * x.sign().eq(1).double(), X)
    assert report.verdict == "right", report
    # Nor a level that is above itself.
    report = pudle.audit(lambda x: x[torch.searchsorted(*[X.sort().values] * 2).clip(0, 3)], X)
    assert report.verdict == "right", report
    # What is single precision inside looks smooth from afar.
    report = pudle.audit(lambda x: x.float().sin().double() * 2 / 3, X)
    assert report.verdict != "wrong", report
    report = pudle.audit(torch.linalg.inv, singular(1e-13))
    assert report.verdict == "undecided" and "condition" in repr(report)
    report = pudle.audit(torch.square, 0 * X)
    assert report.verdict == "undecided" and "no slope was seen" in repr(report)
    report = pudle.audit(torch.abs, torch.zeros(()).double())
    assert "cannot be told: a kink" in repr(report), report


def test_that_few_names_were_tried_is_said() -> None:
    shares = torch.linspace(1, 2, 300).double()
    report = pudle.audit(exp(lambda d, z: d * z * shares), shares)
    assert report.verdict == "wrong" and "at most 256 entries" in repr(report)


def test_a_layer_that_moves_by_itself_is_undecided() -> None:
    report = pudle.audit(lambda x: x.sin() * (1 + 1e-3 * time.perf_counter()), X)
    assert report.verdict == "undecided" and "return different outputs" in repr(report)


def test_inputs_have_the_names_and_options_that_the_layer_gives_them() -> None:
    class Cell(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(SQUARE.clone())

        def forward(self, U, bias):
            return (U @ self.weight + bias).tanh()

    names = [part.name for part in pudle.audit(Cell(), BATCH, X).parts]
    assert sorted(names) == ["input 0 (U)", "input 1 (bias)", "parameter weight"]
    wrong = lambda x, steps=9: function(lambda x: iterated(x, steps), lambda d, *_: d)(x)  # noqa: E731
    assert "tighten='steps'" in repr(pudle.audit(wrong, X))
    sparse = torch.nn.Embedding(3, 2, sparse=True)
    assert pudle.audit(sparse, torch.tensor([0, 2, 2])).verdict == "right"


def test_a_gradient_that_is_wrong_in_float32_alone_is_not_right() -> None:
    layer = exp(lambda d, z: d * z * (1 + (z.dtype == torch.float32) / 2))
    assert pudle.audit(layer, X).verdict == "right"
    single = pudle.audit(layer, X.float())
    assert single.verdict == "inexact" and single.error == pytest.approx(0.5)


class Scaled(torch.nn.Module):
    """A product whose gradient is wrong in float32 alone."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(BATCH.T.float())

    def forward(self, x):
        def backward(d, z, x, weight):
            factor = 1 + (x.dtype == torch.float32) / 2
            return factor * d @ weight.T, factor * x.T @ d

        return function(torch.matmul, backward)(x, self.weight)


@pytest.mark.parametrize("wrt", [None, "weight", ("weight", 0), 0])
def test_parameters_of_float32_are_differentiated_in_it_too(wrt) -> None:
    module = Scaled()
    single = pudle.audit(module, BATCH.float(), wrt=wrt)
    assert single.verdict == "inexact" and single.error == pytest.approx(0.5)
    assert module.weight.dtype == torch.float32
    assert pudle.audit(module.double(), BATCH, wrt=wrt).verdict == "right"


class OfFloat32(torch.nn.Linear):
    """A layer with parameters that takes float32 alone, and says so in a way of its own."""

    def __init__(self, check) -> None:
        super().__init__(N, 2)
        self.check = check

    def forward(self, x):
        self.check(x)
        return super().forward(x.sin())


def asserts_float32(x):
    assert x.dtype == torch.float32


def raises_for_others(x):
    if x.dtype != torch.float32:
        raise RuntimeError("expected scalar type Float")


FLOAT32 = BATCH.float()


@pytest.mark.parametrize(
    "check",
    [
        asserts_float32,
        raises_for_others,
        lambda x: {torch.float32: None}[x.dtype],
        # A check of this package.
        lambda x: pudle.SparseCoding(observations=FLOAT32.T, dictionary=x, penalty=0.2),
    ],
)
def test_a_module_that_takes_its_own_dtype_alone_is_audited_in_it(check) -> None:
    module = OfFloat32(check)
    assert pudle.audit(module, FLOAT32[:, :N]).verdict == "right"
    assert {tensor.dtype for tensor in module.parameters()} == {torch.float32}


def two_inputs(factor: float, single_factor: float = 1.0) -> Callable[..., torch.Tensor]:
    """Return the product of two inputs whose gradient in the second one has a factor, and another
    one in single precision.
    """

    class Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, w):
            ctx.save_for_backward(x, w)
            return x * w

        @staticmethod
        def backward(ctx, d):
            x, w = ctx.saved_tensors
            wrong = single_factor if x.dtype == torch.float32 else factor
            return d * w, d * x * wrong

    return lambda x, w: Product.apply(x, w)


@pytest.mark.parametrize("factors", [(1.0, 1.0), (1.0, 1.5), (1.5, 1.5)])
def test_inputs_stand_in_their_order_and_one_that_is_not_right_comes_first(factors) -> None:
    report = pudle.audit(two_inputs(*factors), X.float(), X.float() + 3)
    verdict, error = {
        (1.0, 1.0): ("right", 0),
        (1.0, 1.5): ("inexact", 0.5),
        (1.5, 1.5): ("wrong", 0.5),
    }[factors]
    names = [part.name for part in report.parts]
    order = ["input 0 (x)", "input 1 (w)"]
    assert names == (order if verdict == "right" else order[::-1])
    assert report.verdict == verdict and report.error == pytest.approx(error, abs=1e-6)
    assert report.error == max(part.error for part in report.parts)


@pytest.mark.parametrize("name", [1, "w", "input 1 (w)"])
def test_an_input_is_chosen_by_what_messages_call_it(name) -> None:
    report = pudle.audit(two_inputs(1.5), X, X + 3, wrt=name)
    assert [part.name for part in report.parts] == ["input 1 (w)"] and report.verdict == "wrong"


def test_parameters_are_chosen_by_what_messages_call_them() -> None:
    module = torch.nn.Linear(N, 2)
    module.input = torch.nn.Parameter(torch.ones(1))
    for name, chosen in (("parameter bias", "bias"), ("input", "input")):
        (part,) = pudle.audit(module, X, wrt=name).parts
        assert part.name == f"parameter {chosen}"
    both = pudle.audit(torch.nn.Linear(N, 2), X, wrt=("input", "bias", 0))
    assert [part.name for part in both.parts] == ["input 0 (input)", "parameter bias"]


def test_every_line_says_what_is_exact_and_how_far_it_is_off_in_its_own_dtype() -> None:
    lines = repr(pudle.audit(two_inputs(1.0), X.float(), X.float() + 3)).splitlines()
    number = r"\d\.?\d*(e-\d+)?"
    for index, (line, name) in enumerate(zip(lines, "xw", strict=True)):
        assert re.fullmatch(
            rf" *right: the gradient in input {index} \({name}\) agrees to {number} with finite"
            rf" differences of the layer, which are themselves exact to {number}; computed in"
            rf" torch\.float32, it is off by {number} of its norm",
            line,
        ), line
    # In float64 there is no other dtype to compare.
    assert "computed in" not in repr(pudle.audit(two_inputs(1.0), X, X + 3))


def test_tightening_tells_a_mistake_from_a_solver_that_stops_early() -> None:
    def early(x, steps=8):
        backward = lambda d, z, x: tanh_adjoint(d, iterated(x), x)  # noqa: E731
        return function(lambda x: iterated(x, steps), backward)(x)

    assert pudle.audit(early, X).verdict == "undecided"
    assert pudle.audit(early, X, tighten="steps").verdict == "inexact"
    # Its backward pass is at the solution.
    assert pudle.audit(early, X, step=tanh_step).verdict == "right"
    half = lambda x, steps=8: 0.6 * early(x, steps) + 0.4 * early(x, steps).detach()  # noqa: E731
    # What has no solver inside is as tight as it gets.
    assert {pudle.audit(half, X, tighten=entry).verdict for entry in ("steps", half)} == {"wrong"}


def test_what_cannot_be_the_truth_is_undecided() -> None:
    another = pudle.audit(iterated, X, step=lambda z, x: z / 2 + x)
    assert another.verdict == "undecided" and "another equation" in repr(another)
    bent = function(tanh_step, lambda d, z, *_: (J.T @ d, d))
    assert "audit step itself" in repr(pudle.audit(iterated, X, step=bent))
    swapped = pudle.audit(iterated, X, step=lambda x, z: x + z.tanh())
    assert "does not solve step" in repr(swapped)
    kink = pudle.audit(lambda x: x.abs(), 0 * X, residual=lambda z, x: z - x.abs())
    assert kink.verdict == "undecided" and "kink" in repr(kink)
    # So ill-conditioned that no order of summation makes its solution a truth.
    matrix = ill_conditioned(12)
    off = function(
        lambda x: torch.linalg.solve(matrix, x), lambda d, *_: 1.05 * torch.linalg.solve(matrix, d)
    )
    assert pudle.audit(off, X, residual=residual_of(matrix)).verdict == "undecided"


@pytest.mark.parametrize("missed, asked", [(0.1, True), (1e-4, False)])
def test_an_equation_that_is_far_from_the_layers_is_asked_for(missed: float, asked: bool) -> None:
    own = function(lambda x: iterated(x + missed), lambda d, z, x: tanh_adjoint(d, z, x + missed))
    report = pudle.audit(own, X, step=tanh_step)
    assert report.verdict == "inexact" and "it agrees with finite differences" in repr(report)
    assert ("is this the equation of the layer?" in repr(report)) is asked, report


def test_wrong_usage_is_told() -> None:
    with pytest.raises(pudle.InvalidArgument, match="2 entries where the layer returns 6"):
        pudle.audit(linear(INVERSE), X, residual=lambda z, x: equation(z, x)[:2])
    with pytest.raises(pudle.InvalidArgument, match="let the layer return"):
        pudle.audit(torch.nn.Linear(N, 2).double(), X, step=tanh_step)
    with pytest.raises(pudle.InvalidArgument, match="raises ValueError where input 0"):
        pudle.audit(lambda x: torch.distributions.Bernoulli(x).probs, EYE[0])
    with pytest.raises(pudle.InvalidArgument, match="choose from 0 or 'input', 'weight', 'bias'"):
        pudle.audit(torch.nn.Linear(N, 2), X, wrt="weights")
    with pytest.raises(pudle.InvalidArgument, match="tighten='steps'"):
        pudle.audit(lambda x: x * x.detach() ** 2, X[:2], tighten="steps")


@pytest.mark.parametrize(
    "cls, remedy",
    [
        (torch.nn.Tanh, r"an object, such as layer = Tanh\(\)"),
        (pudle.FixedPoint, r"an object, such as layer = FixedPoint\(\)"),
        (torch.autograd.Function, r"its function, such as layer = Function.apply"),
    ],
)
def test_a_class_is_no_layer(cls, remedy) -> None:
    with pytest.raises(pudle.InvalidArgument, match=f"^{cls.__name__} is a class: audit {remedy}$"):
        pudle.audit(cls, X)


@pytest.mark.parametrize("pack", [tuple, list])
def test_tensors_in_a_tuple_are_to_be_passed_apart(pack) -> None:
    said = f"^input 0 is a {pack.__name__}: pass its tensors apart, as"
    with pytest.raises(pudle.InvalidArgument, match=said):
        assert_gradient(torch.mul, pack([X, X]))
    with pytest.raises(pudle.InvalidArgument, match="^no input and no parameter is a tensor"):
        pudle.audit(torch.mul, 2, pack([3]))


def test_an_equation_that_fails_is_told_by_what_does_not_fit() -> None:
    another = torch.nn.Linear(N, N)
    audited = torch.nn.Linear(N, N)
    for residual, remedy in (
        (lambda z, x: z - another(x), "parameters of the audited module meanwhile: let residual"),
        (lambda z, x: z[:, :2] - audited(x), "let the layer return the z that residual takes"),
        (lambda z: z, "it is called with z and as many inputs as the layer, here 1"),
    ):
        with pytest.raises(pudle.InvalidArgument) as caught:
            pudle.audit(audited, BATCH.float(), residual=residual)
        (said,) = str(caught.value).splitlines()
        assert said.partition("): ")[2].count(remedy) == 1, said
    # The parameters of the module itself are converted.
    assert pudle.audit(audited, BATCH.float(), residual=lambda z, x: z - audited(x)).verdict == (
        "right"
    )


@pytest.mark.parametrize(
    "residual",
    [lambda z, x: SQUARE @ z - x, lambda z, x: z - x],
    ids=["fails", "returns more entries"],
)
def test_a_layer_that_returns_a_value_is_told_to_return_the_solution_too(residual) -> None:
    solution = linear(INVERSE)
    with pytest.raises(pudle.InvalidArgument, match=r"a value and not z: let it return \(z, value"):
        pudle.audit(lambda x: (solution(x) ** 2).sum(), X, residual=residual)
    with pytest.raises(pudle.InvalidArgument, match="as many inputs as the layer, here 1"):
        pudle.audit(lambda x: (x**2).sum(), X, residual=lambda z: z)


def test_problems_are_audited_as_they_are() -> None:
    problem = pudle.FixedPoint(X, tanh_step, lambda z, theta: (z**2).sum(), 0 * X)
    assert [part.verdict for part in pudle.audit(problem).parts] == 4 * ["right"]
    # Kinks lie at zero codes, and close to others of so many.
    for seed in range(3):
        problem = pudle.make_dataset(f"sparse_gaussian(n_samples=20, seed={seed})").problem()
        assert pudle.audit(problem).verdict == "right"


def test_what_a_problem_has_no_use_for_is_refused() -> None:
    """No option of an audit is dropped without a word."""
    problem = pudle.make_dataset("sparse_gaussian(n_samples=20)").problem()
    options = inspect.signature(pudle.audit).parameters.values()
    keywords = {option.name for option in options if option.kind is option.KEYWORD_ONLY}
    for name in keywords - {"seed"}:
        with pytest.raises(pudle.InvalidArgument, match=f"^{name} cannot be given for a problem"):
            pudle.audit(problem, **{name: 0 if name == "wrt" else tanh_step})
    with pytest.raises(pudle.InvalidArgument, match=r"^inputs and wrt cannot be given"):
        pudle.audit(problem, X, wrt=())


OWN = """
import pudle, torch

def problem():
    theta = torch.linspace(0.1, 1, 3).double()
    step = lambda z, theta: (0.5 * z.detach() + theta).tanh()
    return pudle.FixedPoint(theta, step, lambda z, theta: (z**2).sum(), 0 * theta)
"""


@pytest.fixture(scope="module")
def supervisor_with_torch():
    """Let the supervisor of this process import what an audit needs, once for all: each worker of
    `pudle audit` would take more than a second for it.
    """
    with Process(os.getpid, module="pudle.auditing.audit") as process:
        assert process.wait() == 0


@pytest.mark.usefixtures("supervisor_with_torch")
def test_a_run_and_an_advice_name_the_audit_where_a_step_is_wrong(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(OWN)
    case = Case("own", "mine.py:problem", "iteration", "own", (0,), (3,), ("limit",))
    advised = call("advise", "--dataset", case.dataset)
    for said in (case.make_reference(0, "limit").reason, advised.stderr):
        assert (
            "the derivative of the step in the state differs" in said
            and f"pudle audit {case.dataset} " in said
        )
    process = call("audit", case.dataset)
    assert process.stdout.startswith("wrong: the gradient in input 0 (state) of the step"), process
    assert "likely mistake: detached" in process.stdout
    refused = call("audit", case.dataset, "--wrt", "1")
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1
    assert "wrt cannot be given for a problem" in refused.stderr


@pytest.mark.usefixtures("supervisor_with_torch")
@pytest.mark.parametrize(
    "layer, code, says",
    [
        ("lambda x: x.sin()", 0, "right: "),
        ("lambda x: x * x.detach()", 1, "wrong: "),
        ("torch.nn.Linear(3, 2)", 0, "in parameter bias agrees"),
        ("lambda x: no * x", 2, "NameError"),
        ("lambda x: os._exit(0)", 2, "exit code 0"),
        ("lambda x: ctypes.string_at(0)", 2, "signal 11"),
        ("lambda x: time.sleep(99)", 2, "a larger --timeout"),
    ],
)
def test_exit_codes_of_the_command(tmp_path, layer, code, says) -> None:
    text = f"import ctypes, os, time, torch\n\ninputs = lambda: torch.ones(3)\nlayer = {layer}\n"
    (tmp_path / "mine.py").write_text(text)
    # Nothing else has to end within its time.
    limit = "0.5" if "sleep" in layer else "9"
    process = call("audit", "mine.py:layer", "--timeout", limit, cwd=tmp_path)
    printed = process.stderr if code == 2 else process.stdout
    assert process.returncode == code and says in printed, process
    if code == 2:
        assert process.stderr.count("\n") == 1


#: Makes the import of all that an audit needs take longer.
SLOW_IMPORT = """
import sys, time

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "pudle.auditing.rules":
            time.sleep(2.5)

sys.meta_path.insert(0, Slow())
"""


@pytest.mark.slow
def test_the_time_of_imports_is_none_of_the_layers(tmp_path) -> None:
    (tmp_path / "sitecustomize.py").write_text(SLOW_IMPORT)
    text = "import torch\n\ninputs = lambda: torch.ones(3)\nlayer = torch.sin\n"
    (tmp_path / "mine.py").write_text(text)
    environment = {"PYTHONPATH": str(tmp_path)}
    process = run("audit", "mine.py", "--timeout", "2", cwd=tmp_path, env=environment)
    assert process.stdout.startswith("right: "), process


@pytest.mark.parametrize(
    "text, target",
    [
        ("def layer(x):\n    return x.sin()\n", "mine.py:layer"),
        ("def layer(x):\n    return x.sin()\n", "mine.py"),
        ("layer = lambda x: x.sin()\n", "mine.py:layer"),
        ("import torch\n\nlayer = torch.nn.Linear(3, 2)\n", "mine.py:layer"),
    ],
)
def test_a_file_without_inputs_is_asked_for_them(tmp_path, monkeypatch, text, target) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(text)
    asked = "^the file has no `inputs\\(\\)`: define it, it returns what the layer is called with"
    with pytest.raises(pudle.InvalidArgument, match=asked):
        audit_target(target, (), 0.01)


def test_the_fault_of_a_problem_is_told_as_it_is(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("def problem(size):\n    return size\n")
    with pytest.raises(pudle.InvalidArgument, match="needs size: write mine.py:problem"):
        audit_target("mine.py:problem", (), 0.01)


#: A file with layers of all kinds, and with much that is no layer.
LAYERS_IN_FILE = """
import torch
from math import sqrt

class Twice(torch.autograd.Function):
    pass

applied = Twice.apply
linear = torch.nn.Linear(3, 2)
sine = lambda x: x.sin()
size = 3
inputs = lambda: torch.ones(size)
step = lambda z, x: x

def doubled(x):
    return 2 * x
"""


@pytest.mark.usefixtures("supervisor_with_torch")
@pytest.mark.parametrize("target, name", [("mine.py:other", "other"), ("mine.py", "layer")])
def test_a_name_that_a_file_lacks_is_wrong_usage(tmp_path, target, name) -> None:
    (tmp_path / "mine.py").write_text(LAYERS_IN_FILE)
    process = call("audit", target, cwd=tmp_path)
    said = f"no layer '{name}': choose from applied, linear, sine, doubled\n"
    assert process.returncode == 2 and process.stderr.endswith(said), process


def test_a_second_derivative_that_is_marked_as_none_is_not_told() -> None:
    marked = pudle.adapt.from_numpy(np.exp, lambda w, x: w * np.exp(x))
    for layer in (exp(lambda d, z: d * z), marked):
        report = pudle.audit(layer, BATCH)
        assert (report.verdict, report.mistake) == ("right", "")


@pytest.mark.parametrize("own_factor, right", [(1, True), (1.001, False)])
def test_a_right_row_of_a_batch_is_right_in_its_own_norm(own_factor: float, right: bool) -> None:
    factors = 1 + drawn(8, N, seed=7)
    factors[3] = own_factor
    report = pudle.audit(exp(lambda d, z: factors * d * z), drawn(8, N, seed=4))
    assert report.verdict == "wrong"
    assert ("1 of 8 rows right" in report.mistake) is right, report


def test_a_gap_whose_rank_is_low_by_size_names_no_term() -> None:
    x, y = drawn(N, seed=8), drawn(2, seed=9)
    halved = function(
        lambda matrix: torch.cat([matrix @ x, matrix.T @ y]),
        lambda d, z, matrix: torch.outer(d[:2], x) / 2 + torch.outer(y, d[2:]),
    )
    report = pudle.audit(halved, drawn(2, N, seed=7))
    assert report.verdict == "wrong" and "term" not in report.mistake, report


@pytest.mark.parametrize("size, explained", [(1, False), (3, True)])
def test_a_mistake_whose_number_is_fitted_explains_no_single_number(
    size: int, explained: bool
) -> None:
    gradient, series = np.linspace(0.7, 0.9, size), Mistake(MistakeKind.SERIES, (7,))
    likely = likeliest(gradient, 1.01 * gradient[::-1], [(series, gradient)], 1e-2)
    assert likely == LikelyMistakes(False, (series,) if explained else ())


#: A gradient that no known mistake explains, and what would name more.
UNNAMED = function(torch.sin, lambda d, z, x: d * (1 + x.abs()).log())
SIZE_OF_NAMES = "where inputs and outputs have at most 256 entries"


@pytest.mark.parametrize(
    "x, options, more",
    [
        (X, {}, "; more have a name with step= or residual="),
        (X, {"residual": lambda z, x: z - x.sin()}, ""),
        (drawn(300), {}, f"; more have a name with step= or residual= and {SIZE_OF_NAMES}"),
        (drawn(300), {"residual": lambda z, x: z - x.sin()}, f"; more have a name {SIZE_OF_NAMES}"),
    ],
)
def test_a_gradient_that_no_known_mistake_explains_is_told_so(x, options, more) -> None:
    report = pudle.audit(UNNAMED, x, **options)
    assert (report.verdict, report.mistake) == ("wrong", "")
    assert repr(report).splitlines()[1:] == [f"  no known mistake explains it{more}"]


def test_a_problem_whose_mistake_has_no_name_is_not_asked_for_an_equation() -> None:
    problem = pudle.FixedPoint(
        X, lambda z, theta: z / 2 + UNNAMED(theta), lambda z, _: (z**2).sum(), 0 * X
    )
    lines = repr(pudle.audit(problem)).splitlines()
    assert lines[0].startswith("wrong: ") and lines[1] == "  no known mistake explains it"


def test_that_no_mistake_is_known_is_told_where_a_gradient_is_off_and_none_is_named() -> None:
    undecided = function(iterated, lambda d, *_: SQUARE @ d)
    report = pudle.audit(undecided, X)
    assert report.verdict == "undecided" and "no known mistake" in repr(report)
    for named in (
        pudle.audit(torch.sin, X),
        pudle.audit(exp(lambda d, z: -d * z), X),
        pudle.audit(torch.relu, 0 * X),
        pudle.audit(lambda x: torch.where(x > 0, x.sqrt(), x), X),
        pudle.audit(exp(lambda d, z: d * z * (1 + torch.randn(z.shape).double())), BATCH),
    ):
        assert "no known mistake" not in repr(named), named


@pytest.mark.parametrize("equation", [{}, {"residual": lambda z, t: z - t.exp()}])
def test_a_wrong_gradient_of_one_number_is_told_with_its_factor(equation) -> None:
    forgotten = function(torch.exp, lambda d, z, t: d * z * (-t).exp())
    report = pudle.audit(forgotten, torch.tensor(0.3).double(), **equation)
    assert report.verdict == "wrong" and not report.mistake
    assert "is off by 0.26 of its norm (0.7408 times what it should be) from" in repr(report)
    for other in (
        pudle.audit(function(torch.exp, lambda d, z, t: 0 * d), torch.tensor(0.3).double()),
        pudle.audit(torch.exp, torch.tensor(0.3).double(), **equation),
        pudle.audit(UNNAMED, X),
    ):
        assert "times what it should be" not in repr(other), other
