"""What docs/results/wrong_gradients.md says of layers is what the audit says of them: of published
mistakes that are rebuilt, and at night of released packages.
"""

import re
import runpy
from functools import partial

import pytest
import torch
from page_runner import fits
from paths import ROOT

import pudle

PAGE = (ROOT / "docs" / "results" / "wrong_gradients.md").read_text()
SHOWN = dict(re.findall(r"^### (.+?)$.*?^```text$\n(.*?)```", PAGE, re.MULTILINE | re.DOTALL))
VERDICTS = dict(re.findall(r"^\| (.+?) \|.* (\w+) \| [^|]*\|$", PAGE, re.MULTILINE))
PUBLISHED = runpy.run_path(str(ROOT / "examples" / "audit" / "published.py"))
GALLERY, J, TALL, drawn = (PUBLISHED[name] for name in ("GALLERY", "J", "TALL", "drawn"))


@pytest.mark.parametrize("name", GALLERY)
def test_published_mistakes(name) -> None:
    said, shown = repr(GALLERY[name]()), SHOWN[name[0].upper() + name[1:]].splitlines()
    assert len(shown) == len(said.splitlines()) and all(fits(line, said) for line in shown), said


def tanh_step(z, x):
    return torch.tanh(z @ J.T + x)


def nonnegative_step(z, b):
    """Descend once towards the nonnegative least-squares solution."""
    return (z - TALL.T @ (TALL @ z - b) / 50).relu()


def convex(objective, size, step):
    cp, layers = pytest.importorskip("cvxpy"), pytest.importorskip("cvxpylayers.torch")
    z, given = cp.Variable(4, nonneg=True), cp.Parameter(size)
    problem = objective(cp, z, given)
    layer = layers.CvxpyLayer(problem, parameters=[given], variables=[z])
    return pudle.audit(lambda x: layer(x)[0], drawn(size), step=step)


def least(cp, z, b):
    return cp.Problem(cp.Minimize(cp.sum_squares(TALL.numpy() @ z - b)))


def entropy(cp, z, x):
    return cp.Problem(cp.Maximize(x @ z + cp.sum(cp.entr(z))), [cp.sum(z) == 1])


def quadratic():
    solve = pytest.importorskip("qpth.qp").QPFunction(verbose=-1)
    eye, none = torch.eye(4).double(), torch.empty(0)
    rest = (-eye, torch.zeros(4).double(), none, none)
    layer = lambda b: solve(TALL.T @ TALL, -(b @ TALL)[None], *rest)[0]  # noqa: E731
    return pudle.audit(layer, drawn(6), step=nonnegative_step)


def equilibrium(**options):
    solve = pytest.importorskip("torchdeq").get_deq(**options)
    layer = lambda x: solve(lambda z: tanh_step(z, x), torch.zeros_like(x))[0][0]  # noqa: E731
    return pudle.audit(layer, drawn(3, 4), step=tanh_step)


def physics(deepinv):
    return deepinv.physics.LinearPhysics(A=lambda x: x @ TALL.T, A_adjoint=lambda y: y @ TALL)


def unrolled_forever():
    deepinv = pytest.importorskip("deepinv")
    options = {"stepsize": 1 / 16, "lambda_reg": 0.5, "g_param": 0.0, "DEQ": True}
    model = deepinv.optim.PGD(deepinv.optim.L2(), deepinv.optim.Tikhonov(), **options)
    layer = lambda y: model(y, physics(deepinv))  # noqa: E731
    step = lambda z, y: (z - (z @ TALL.T - y) @ TALL / 16) / (1 + 1 / 32)  # noqa: E731
    return pudle.audit(layer, drawn(1, 6), step=step)


def least_squares():
    deepinv = pytest.importorskip("deepinv")
    solve = deepinv.optim.linear.least_squares_implicit_backward
    layer = lambda y, z, gamma: solve(physics(deepinv), y, z=z, gamma=gamma)  # noqa: E731
    residual = lambda x, y, z, gamma: (x @ TALL.T - y) @ TALL + (x - z) / gamma  # noqa: E731
    gamma = torch.tensor(0.7).double()
    return pudle.audit(layer, drawn(1, 6), drawn(1, 4), gamma, residual=residual)


def blur():
    deepinv = pytest.importorskip("deepinv")
    operator = deepinv.physics.BlurFFT(img_size=(1, 4, 4), filter=torch.ones(1, 1, 3, 3).double())

    def layer(weights):
        operator.update_parameters(filter=weights.softmax(-1))
        solve = deepinv.optim.linear.least_squares_implicit_backward
        return solve(operator, drawn(1, 1, 4, 4), gamma=torch.tensor(2.0).double())

    return pudle.audit(layer, drawn(1, 1, 3, 3))


def points(package):
    module, weights = pytest.importorskip(package), torch.full((3,), 1 / 3).double()
    other = TALL[:3, :2].contiguous()
    layer = {
        "geomloss": lambda x: module.SamplesLoss(blur=0.5)(x, other),
        "geomloss.ot": lambda x: (
            module.solve_sample(x, other, weights, weights, reg=1, max_iter=100).value
        ),
        "ot": lambda x: module.sinkhorn2(weights, weights, module.dist(x, other), 1.0),
    }[package]
    return pudle.audit(layer, drawn(3, 2))


def in_jax(package):
    module, jax = pytest.importorskip(package), pytest.importorskip("jax")
    step = lambda z, x: jax.numpy.tanh(J.numpy() @ z + x)  # noqa: E731
    if package == "jaxopt":
        layer = lambda x: module.FixedPointIteration(step).run(0 * x, x).params  # noqa: E731
    else:
        solver = module.FixedPointIteration(1e-3, 1e-3)
        layer = lambda x: module.fixed_point(step, solver, 0 * x, x).value  # noqa: E731
    return pudle.audit(pudle.adapt.from_jax(jax.jit(layer)), drawn(4), step=tanh_step)


RELEASED = {
    "CVXPYlayers, nonnegative least squares": partial(convex, least, 6, nonnegative_step),
    "CVXPYlayers, entropy": partial(convex, entropy, 4, lambda z, x: x.softmax(0)),
    "qpth": quadratic,
    "TorchDEQ, implicit": partial(equilibrium, ift=True),
    "TorchDEQ, implicit, tight": partial(
        equilibrium, ift=True, f_tol=1e-12, b_tol=1e-12, f_max_iter=300, b_max_iter=300
    ),
    "TorchDEQ, as it comes": equilibrium,
    "DeepInverse, DEQ": unrolled_forever,
    "DeepInverse, least squares": least_squares,
    "DeepInverse, a filter that is computed": blur,
    "GeomLoss, SamplesLoss": partial(points, "geomloss"),
    "GeomLoss, solve_sample": partial(points, "geomloss.ot"),
    "POT, sinkhorn2": partial(points, "ot"),
    "JAXopt, fixed point": partial(in_jax, "jaxopt"),
    "Optimistix, fixed point": partial(in_jax, "optimistix"),
}


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", RELEASED)
def test_released_packages(name) -> None:
    found = RELEASED[name]()
    assert found.verdict == VERDICTS[name], found
