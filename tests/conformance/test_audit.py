"""Planted mistakes are called wrong and named; right layers in unusual styles never are."""

import numpy as np
import pytest
import torch
from commands import call
from torch import Tensor

import pudle


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.as_tensor(np.random.default_rng(seed).standard_normal(shape))


N = 6
J = 0.3 * drawn(N, N)
H = torch.eye(N).double() - J
X, BATCH, SYMMETRIC = drawn(N, seed=1), drawn(4, N, seed=2), drawn(N, N, seed=3)
SYMMETRIC = SYMMETRIC @ SYMMETRIC.T + torch.eye(N)
INVERSE = torch.linalg.inv(H)


def function(forward, backward):
    """Return a layer from a function of inputs, and its gradient from one of (d, z, *inputs)."""

    class Made(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *inputs):
            z = forward(*inputs)
            ctx.save_for_backward(z, *inputs)
            return z

        @staticmethod
        def backward(ctx, d):
            return backward(d, *ctx.saved_tensors)

    return Made.apply


def solved(x):
    return x @ INVERSE.T.to(x)


def equation(z, x):
    """The residual of a layer that is linear in its input."""
    return z @ H.T - x


def contraction(z, x):
    return z @ J.T + x


def tanh_step(z, x):
    return torch.tanh(z @ J.T + x)


def iterated(x, steps=100, step=tanh_step):
    z = torch.zeros_like(x)
    for _ in range(steps):
        z = step(z, x)
    return z


def tanh_adjoint(d, z, x, transpose=True, terms=None, slope=None):
    """Return the implicit gradient of the fixed point of `tanh_step`, row by row."""
    slope = 1 - tanh_step(z, x) ** 2 if slope is None else slope
    found = []
    for row, s in zip(d.reshape(-1, N), slope.reshape(-1, N), strict=True):
        jacobian = s[:, None] * J
        jacobian = jacobian if not transpose else jacobian.T
        if terms is None:
            v = torch.linalg.solve(torch.eye(N).double() - jacobian, row)
        else:
            v = total = row
            for _ in range(terms - 1):
                v = jacobian @ v
                total = total + v
            v = total
        found.append(s * v)
    return torch.stack(found).reshape(d.shape)


class Remembering:
    """A solver that keeps its solution where the next call overwrites it."""

    def __call__(self, x):
        outer = self

        class Made(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                outer.z = iterated(x)
                ctx.save_for_backward(x)
                return outer.z.clone()

            @staticmethod
            def backward(ctx, d):
                return tanh_adjoint(d, outer.z, *ctx.saved_tensors)

        return Made.apply(x)


class First:
    """A layer that solves once and for all."""

    def __init__(self):
        self.slope = None

    def __call__(self, x):
        z = function(iterated, lambda d, z, x: tanh_adjoint(d, z, x, slope=self.slope))(x)
        if self.slope is None:
            self.slope = 1 - z.detach() ** 2
        return z


def kept_graph(x):
    """A deep-equilibrium layer whose solver is differentiated as well."""
    z = iterated(x)
    new = tanh_step(z, x)
    leaf = z.detach().requires_grad_()
    at = tanh_step(leaf, x.detach())

    def solve(d):
        jacobian = torch.stack(
            [
                torch.autograd.grad(at, leaf, row, retain_graph=True)[0]
                for row in torch.eye(N).double()
            ]
        )
        return torch.linalg.solve(torch.eye(N).double() - jacobian.T, d)

    if new.requires_grad:
        new.register_hook(solve)
    return new


def noisy_gradient(d, z, x):
    return d * z * (1 + 0.1 * torch.randn(z.shape, dtype=z.dtype))


def half(matrix):
    return torch.tril(matrix)


EXP = (torch.exp,)
MEAN = torch.nn.functional.softplus

#: Name, layer, inputs, further arguments, and what its mistake is called.
WRONG = {
    "sign": (function(torch.exp, lambda d, z, x: -d * z), (BATCH,), {}, "negated"),
    "sign of a solve": (
        function(solved, lambda d, z, x: -d @ INVERSE),
        (X,),
        {"residual": equation},
        "negated",
    ),
    "factor 2 of a square": (
        function(lambda x: x**2, lambda d, z, x: d * x),
        (BATCH,),
        {},
        "factor 1/2",
    ),
    "factor n": (
        function(lambda x: (x**2).mean(0), lambda d, z, x: 2 * d * x),
        (BATCH,),
        {},
        "sum over 4",
    ),
    "factor 1/n": (
        function(lambda x: (x**2).sum(0), lambda d, z, x: 2 * d * x / len(x)),
        (BATCH,),
        {},
        "mean over 4",
    ),
    "odd factor": (function(torch.exp, lambda d, z, x: 0.7 * d * z), (BATCH,), {}, "0.7"),
    "detached input": (
        lambda x, y: x.sin() * y.detach(),
        (BATCH, BATCH + 1),
        {"wrt": 1},
        "detached",
    ),
    "detached factor": (lambda x: x.detach() * x, (BATCH,), {}, "factor 1/2"),
    "not transposed": (
        function(solved, lambda d, z, x: d @ INVERSE.T),
        (X,),
        {"residual": equation},
        "transpose",
    ),
    "not transposed, a step": (
        function(iterated, lambda d, z, x: tanh_adjoint(d, z, x, transpose=False)),
        (X,),
        {"step": tanh_step},
        "transpose",
    ),
    "one step": (
        function(iterated, lambda d, z, x: tanh_adjoint(d, z, x, terms=1)),
        (X,),
        {"step": tanh_step},
        "not solved",
    ),
    "five terms": (
        function(iterated, lambda d, z, x: tanh_adjoint(d, z, x, terms=5)),
        (BATCH,),
        {"step": tanh_step},
        "5 terms",
    ),
    "phantom": (
        lambda x: tanh_step(tanh_step(iterated(x).detach(), x), x),
        (X,),
        {"step": tanh_step},
        "2 terms",
    ),
    "kept graph": (kept_graph, (X,), {"step": tanh_step}, "twice"),
    "damped": (
        function(solved, lambda d, z, x: torch.linalg.solve(H.T + 0.05 * torch.eye(N), d)),
        (X,),
        {"residual": equation},
        "damped by 0.05",
    ),
    "plus for minus": (
        function(solved, lambda d, z, x: torch.linalg.solve((2 * torch.eye(N) - H).T, d)),
        (X,),
        {"residual": equation},
        "I + J",
    ),
    "direct part": (
        function(
            lambda x: torch.stack([(solved(x) * x).sum()]),
            lambda d, z, x: d * (INVERSE.T @ x),
        ),
        (X,),
        {},
        "",
    ),
    "first sample alone": (
        function(torch.exp, lambda d, z, x: torch.cat([d[:1] * z[:1], 0 * d[1:]])),
        (BATCH,),
        {},
        "part of the batch",
    ),
    "first sample's Jacobian": (
        function(iterated, lambda d, z, x: tanh_adjoint(d, z[:1].expand_as(z), x[:1].expand_as(x))),
        (BATCH,),
        {"step": tanh_step},
        "part of the batch",
    ),
    "parameter of the first sample": (
        lambda x, w: torch.cat([x[:1] * w, x[1:] * w.detach()]),
        (BATCH, X),
        {"wrt": 1, "residual": lambda z, x, w: z - x * w},
        "first sample",
    ),
    "lower half": (
        function(torch.linalg.det, lambda d, z, x: d * torch.tril(z * torch.linalg.inv(x).T)),
        (SYMMETRIC,),
        {},
        "half of a symmetric",
    ),
    "transposed": (
        function(
            lambda x: (x @ SYMMETRIC).sin(),
            lambda d, z, x: ((x @ SYMMETRIC).cos() * d @ SYMMETRIC).T,
        ),
        (drawn(N, N, seed=4),),
        {},
        "transposed",
    ),
    "exchanged": (
        function(lambda x, y: x.sin() * y, lambda d, z, x, y: (d * x.sin(), d * y * x.cos())),
        (BATCH, BATCH + 1),
        {"wrt": (0, 1)},
        "",
    ),
    "stale by the next call": (Remembering(), (X,), {"step": tanh_step}, "stale"),
    "stale by the next call, alone": (Remembering(), (X,), {}, "stale"),
    "stale first call": (First(), (X,), {"step": tanh_step}, "stale"),
    "float32": (
        function(torch.exp, lambda d, z, x: (d * z).float().double()),
        (BATCH,),
        {},
        "float32",
    ),
    "float32 of a solve": (
        function(solved, lambda d, z, x: (d.float() @ INVERSE.float()).double()),
        (X,),
        {"residual": equation},
        "float32",
    ),
    "random": (function(torch.exp, noisy_gradient), (BATCH,), {}, "not deterministic"),
    "softmax without its second term": (
        function(lambda x: x.softmax(-1), lambda d, z, x: d * z),
        (BATCH,),
        {},
        "",
    ),
    "layer norm with constant statistics": (
        lambda x: (x - x.mean(-1, keepdim=True).detach()) / x.std(-1, keepdim=True).detach(),
        (BATCH,),
        {},
        "",
    ),
    "a bias that is summed twice": (
        function(lambda x, b: x + b, lambda d, z, x, b: (d, 2 * d.sum(0))),
        (BATCH, X),
        {"wrt": (0, 1)},
        "factor 1/2 is missing",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_planted_mistakes_are_called_wrong_and_named(name: str) -> None:
    layer, inputs, options, mistake = WRONG[name]
    found = pudle.audit(layer, *inputs, **options)
    assert found.verdict == "wrong", found
    assert mistake in found.mistake, found


class Cached:
    """A layer that keeps every solution it has found, and starts from the last."""

    def __init__(self, tolerance=1e-12):
        self.tolerance, self.kept, self.last = tolerance, {}, None

    def solution(self, x):
        key = x.detach().numpy().tobytes()
        if key not in self.kept:
            z = torch.zeros_like(x) if self.last is None else self.last
            while True:
                new = tanh_step(z, x)
                if (new - z).norm() <= self.tolerance * new.norm():
                    break
                z = new
            self.kept[key] = self.last = new.detach()
        return self.kept[key]

    def __call__(self, x):
        return function(self.solution, tanh_adjoint)(x)


def gradient_descent(matrix, right, tolerance):
    """Solve a symmetric system by conjugate gradients to a relative residual."""
    z, r = torch.zeros_like(right), right
    p = r
    while r.norm() > tolerance * right.norm():
        a = (r @ r) / (p @ matrix @ p)
        z, new = z + a * p, r - a * matrix @ p
        r, p = new, new + (new @ new) / (r @ r) * p
    return z


def loose(tolerance, matrix=SYMMETRIC):
    return function(
        lambda x: gradient_descent(matrix, x, tolerance),
        lambda d, z, x: gradient_descent(matrix, d, tolerance),
    )


def complex_step(d, z, x):
    """Return the gradient of an elementwise function by a complex step."""
    moved = torch.exp(torch.complex(x, torch.full_like(x, 1e-30)))
    return d * moved.imag / 1e-30


def through_numpy(x):
    return function(
        lambda x: torch.as_tensor(np.linalg.solve(H.numpy(), x.numpy())),
        lambda d, z, x: torch.as_tensor(np.linalg.solve(H.numpy().T, d.numpy())),
    )(x)


def ill_conditioned(exponent):
    q = torch.linalg.qr(SYMMETRIC)[0]
    return q * torch.logspace(0, -exponent, N).double() @ q.T


def bisected(x):
    """Return the root of z + z^3 = x by bisection, elementwise."""
    low, high = -x.abs() - 1, x.abs() + 1
    for _ in range(60):
        middle = (low + high) / 2
        below = middle + middle**3 < x
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


MODULE = torch.nn.Sequential(torch.nn.Linear(N, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2))
SLOW = drawn(40, 40, seed=5)
SLOW = SLOW @ SLOW.T / 40 + 0.05 * torch.eye(40)
WIDE = drawn(100, 100, seed=8)

#: Name, layer, inputs and further arguments.
RIGHT = {
    "complex step": (function(torch.exp, complex_step), (BATCH,), {}),
    "closed form": (function(solved, lambda d, z, x: d @ INVERSE), (X,), {"residual": equation}),
    "numpy": (through_numpy, (X,), {"residual": equation}),
    "numpy, alone": (through_numpy, (X,), {}),
    "cached": (Cached(), (X,), {"step": tanh_step}),
    "cached, alone": (Cached(), (X,), {}),
    "cached, loose": (Cached(1e-3), (X,), {"step": tanh_step}),
    "cached, loose, alone": (Cached(1e-3), (X,), {}),
    "unrolled": (iterated, (X,), {"step": tanh_step}),
    "unrolled, few steps": (lambda x: iterated(x, 6), (X,), {"step": tanh_step}),
    "unrolled, few steps, alone": (lambda x: iterated(x, 6), (X,), {}),
    "transposed input": (torch.sin, (drawn(N, 4).T,), {}),
    "strided input": (torch.sin, (drawn(4, 2 * N)[:, ::2],), {}),
    "no samples": (torch.nn.Linear(N, 2).double(), (drawn(0, N),), {"wrt": ("weight", 0)}),
    "one sample": (lambda x: iterated(x), (drawn(1, N),), {"step": tanh_step}),
    "scalar": (lambda x: x.exp(), (torch.tensor(0.7),), {}),
    "float32": (torch.sin, (BATCH.float(),), {}),
    "float32 inside": (lambda x: x.float().sin().double(), (BATCH,), {}),
    "module": (MODULE, (BATCH.float(),), {"wrt": (0, "0.weight", "2.bias")}),
    "ill-conditioned": (
        lambda x: torch.linalg.solve(ill_conditioned(8), x),
        (X,),
        {"residual": lambda z, x: ill_conditioned(8) @ z - x},
    ),
    "ill-conditioned, alone": (lambda x: torch.linalg.solve(ill_conditioned(8), x), (X,), {}),
    "loose": (loose(1e-3), (X,), {"residual": lambda z, x: SYMMETRIC @ z - x}),
    "loose, alone": (loose(1e-3), (X,), {}),
    "loose and ill-conditioned": (
        loose(1e-3, ill_conditioned(6)),
        (X,),
        {"residual": lambda z, x: ill_conditioned(6) @ z - x},
    ),
    "loose and ill-conditioned, alone": (loose(1e-3, ill_conditioned(6)), (X,), {}),
    **{
        f"loose {tolerance}, {'a residual' if options else 'alone'}": (
            loose(tolerance, SLOW),
            (drawn(40, seed=6),),
            options,
        )
        for tolerance in (1e-2, 1e-3, 1e-6)
        for options in ({}, {"residual": lambda z, x: SLOW @ z - x})
    },
    "bisection": (
        function(bisected, lambda d, z, x: d / (1 + 3 * z**2)),
        (X,),
        {"residual": lambda z, x: z + z**3 - x},
    ),
    "bisection, alone": (function(bisected, lambda d, z, x: d / (1 + 3 * z**2)), (X,), {}),
    "kink": (torch.relu, (torch.tensor([0.0, 1.0, -2.0], dtype=torch.float64),), {}),
    "sort": (lambda x: x.sort().values, (X,), {}),
    "Cholesky": (torch.linalg.cholesky, (SYMMETRIC,), {}),
    "eigenvalues": (lambda x: torch.linalg.eigvalsh(x), (SYMMETRIC,), {}),
    "dropout": (torch.nn.Dropout(), (BATCH,), {}),
    "constant": (lambda x: x.round(), (BATCH,), {}),
    "several outputs": (
        lambda x, y: {"a": x * y, "b": (x.sum(), y.exp())},
        (X, X + 1),
        {"wrt": (0, 1)},
    ),
    "loss of the input": (
        function(solved, lambda d, z, x: d @ INVERSE),
        (X,),
        {"residual": equation, "loss": lambda z, x: (z**3).sum() + (x * z).sum()},
    ),
    "wide": (lambda x: (x @ x).sin(), (WIDE,), {}),
    "other units": (lambda x: (1e9 * x).sin(), (1e-9 * X,), {}),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_layers_are_never_called_wrong(name: str) -> None:
    layer, inputs, options = RIGHT[name]
    found = pudle.audit(layer, *inputs, **options)
    assert found.verdict != "wrong", found


def test_the_error_is_the_distance_from_the_closed_form() -> None:
    # With the implicit gradient, the whole vector; alone, here as well, all of six coordinates.
    weights = drawn(N, seed=9)
    exact, mine = INVERSE.T @ weights, INVERSE @ weights
    error = float((mine - exact).norm() / exact.norm())
    layer = function(solved, lambda d, z, x: d @ INVERSE.T)
    for options in ({"residual": equation}, {}):
        found = pudle.audit(layer, X, loss=lambda z: weights @ z, **options)
        assert found.error == pytest.approx(error, rel=1e-6)


@pytest.mark.parametrize("name", ["loose", "bisection", "cached", "wide", "complex step"])
def test_no_seed_calls_a_right_layer_wrong(name: str) -> None:
    layer, inputs, options = RIGHT[name]
    for seed in range(3):
        assert pudle.audit(layer, *inputs, seed=seed, **options).verdict == "right"


#: Right layers of all styles that take few milliseconds, with and without an equation.
QUICK = ["complex step", "numpy, alone", "cached, loose", "cached, loose, alone", "float32"]
QUICK += ["ill-conditioned", "ill-conditioned, alone", "bisection", "kink", "sort", "Cholesky"]


@pytest.mark.nightly
@pytest.mark.parametrize("name", QUICK)
def test_no_seed_of_two_hundred_calls_a_right_layer_wrong(name: str) -> None:
    layer, inputs, options = RIGHT[name]
    for seed in range(200):
        found = pudle.audit(layer, *inputs, seed=seed, **options)
        assert found.verdict != "wrong", (seed, found)


@pytest.mark.parametrize("unit", [1e-8, 1e8])
@pytest.mark.parametrize("equations", [True, False])
def test_verdicts_depend_on_neither_units_nor_the_order_of_the_batch(
    unit: float, equations: bool
) -> None:
    def step(z, x):
        return torch.tanh(z / unit @ J.T + x.flip(0) / unit) * unit

    right = function(
        lambda x: iterated(x, step=step),
        lambda d, z, x: tanh_adjoint(d, z / unit, x.flip(0) / unit).flip(0),
    )
    off = function(
        lambda x: iterated(x, step=step),
        lambda d, z, x: -tanh_adjoint(d, z / unit, x.flip(0) / unit).flip(0),
    )
    options = {"step": step} if equations else {}
    assert pudle.audit(right, unit * BATCH[:2], **options).verdict == "right"
    found = pudle.audit(off, unit * BATCH[:2], **options)
    assert (found.verdict, found.mistake) == ("wrong", "negated")


def test_tightening_tells_a_mistake_from_a_solver_that_stops_early() -> None:
    def early(x, steps=8, sign=1.0):
        backward = lambda d, z, x: sign * tanh_adjoint(d, iterated(x), x)  # noqa: E731
        return function(lambda x: iterated(x, steps), backward)(x)

    assert pudle.audit(early, X).verdict == "undecided"
    assert pudle.audit(early, X, tighten="steps").verdict == "inexact"
    # Its backward pass is at the solution.
    assert pudle.audit(early, X, step=tanh_step).verdict == "right"
    half = lambda x, steps=8: 0.6 * early(x, steps) + 0.4 * early(x, steps).detach()  # noqa: E731
    assert pudle.audit(half, X, tighten="steps").verdict == "wrong"


def test_what_cannot_be_the_truth_is_undecided() -> None:
    other = pudle.audit(iterated, X, step=lambda z, x: z / 2 + x)
    assert other.verdict == "undecided" and "another equation" in repr(other)
    bent = function(lambda z, x: tanh_step(z, x), lambda d, z, *_: (J.T @ d, d))
    assert "audit step itself" in repr(pudle.audit(iterated, X, step=bent))
    kink = pudle.audit(lambda x: x.abs(), 0 * X, residual=lambda z, x: z - x.abs())
    assert kink.verdict == "undecided" and "kink" in repr(kink)


def test_wrong_usage_is_told() -> None:
    with pytest.raises(pudle.InvalidArgument, match="2 entries where the layer returns 6"):
        pudle.audit(solved, X, residual=lambda z, x: equation(z, x)[:2])
    with pytest.raises(pudle.InvalidArgument, match="choose from 0, 'weight', 'bias'"):
        pudle.audit(torch.nn.Linear(N, 2), X, wrt="weights")
    with pytest.raises(pudle.InvalidArgument, match="tighten='steps'"):
        pudle.audit(lambda x: x * x.detach() ** 2, X[:2], tighten="steps")


def test_problems_are_audited_as_they_are() -> None:
    def problem(step):
        theta = torch.tensor(0.5, dtype=torch.float64)
        return pudle.FixedPoint(theta, step, lambda z, theta: (z**2).sum(), X)

    right = pudle.audit(problem(lambda z, theta: torch.tanh(J @ z + theta)))
    assert right.verdict == "right" and len(right.parts) == 2
    wrong = pudle.audit(problem(lambda z, theta: torch.tanh(J @ z.detach() + theta)))
    assert wrong.verdict == "wrong" and "state" in wrong.parts[0].name
    for spec in ("ridge", "penalty_selection(n_samples=20)"):
        made = pudle.make_dataset(spec)
        assert pudle.audit(made.problem(made.losses[0])).verdict == "right"


@pytest.mark.parametrize(
    "layer, code, begins",
    [
        ("x.sin()", 0, "right: "),
        ("x * x.detach()", 1, "wrong: "),
        ("torch.nn.functional.dropout(x)", 1, "undecided: "),
        ("nothing * x", 2, ""),
    ],
)
def test_exit_codes_and_figures_of_the_command(tmp_path, layer, code, begins) -> None:
    text = f"import torch\n\ninputs = lambda: torch.ones(3)\nlayer = lambda x: {layer}\n"
    (tmp_path / "mine.py").write_text(text)
    done = call("audit", "mine.py:layer", "--figure", "a.svg", cwd=tmp_path)
    assert done.returncode == code and done.stdout.startswith(begins), done
    if code == 2:
        assert "NameError" in done.stderr and done.stderr.count("\n") == 1
        assert call("audit", "mine.py:other", cwd=tmp_path).returncode == 2
    else:
        assert "<svg" in (tmp_path / "a.svg").read_text()


def test_an_assertion_fails_with_the_text_of_the_audit() -> None:
    pudle.testing.assert_gradient(torch.sin, X)
    layer, inputs, *_ = WRONG["sign"]
    with pytest.raises(AssertionError, match="likely mistake: negated"):
        pudle.testing.assert_gradient(layer, *inputs)
