"""Mistakes in gradients that were published, each rebuilt as a small layer, and its audit in
`GALLERY`. `python published.py` prints what they say; docs/results/wrong_gradients.md tells where
each was found.
"""

from functools import partial

import numpy as np
import torch

import pudle


def drawn(*shape, seed=0):
    return torch.as_tensor(np.random.default_rng(seed).standard_normal(shape))


def layer(forward, backward):
    """Return a layer from a function of its inputs, and from a function of the incoming gradient,
    the output and the inputs that returns the gradient.
    """

    class Layer(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *inputs):
            z = forward(*inputs)
            ctx.save_for_backward(z, *inputs)
            return z

        @staticmethod
        def backward(ctx, d):
            return backward(d, *ctx.saved_tensors)

    return Layer.apply


def solve(matrix, right):
    return torch.linalg.solve(matrix, right)


X, BATCH, TALL, J = drawn(4), drawn(3, 4), drawn(6, 4, seed=2), 0.3 * drawn(4, 4, seed=3)
TARGETS, POSITIVE, EYE = drawn(6, seed=4), drawn(4, 4, seed=5).abs(), torch.eye(4).double()
NORMAL, WIDE, LIMITS = TALL.T @ TALL, TALL[:2], TALL[:2] @ X - 1


# --- plain functions


def log_density(covariance):
    """Of a normal variable at X, without the constant."""
    return -(torch.logdet(covariance) + X @ solve(covariance, X)) / 2


def log_density_backward(d, z, covariance):
    u = solve(covariance, X)
    return d * (covariance.inverse() - torch.outer(u, u)) / 2


def divergence(costs):
    """Kullback-Leibler loss of Gromov and Wasserstein for a fixed plan, up to a constant."""
    return (costs - J.abs() * costs.log()).sum()


def sparsemax_threshold(x):
    descending, k = x.sort(-1, descending=True).values, torch.arange(1, 5)
    thresholds = (descending.cumsum(-1) - 1) / k
    return thresholds.gather(-1, (descending > thresholds).sum(-1, True) - 1)


def sparsemax_backward(d, z, x):
    # The node keeps one threshold, that of the last sample.
    support = x > sparsemax_threshold(x)[-1]
    return support * (d - (support * d).sum(-1, True) / support.sum(-1, True))


def in_place(y):
    """A loss that leaves its gradient where its input was, unseen by autograd."""
    loss = y.logsumexp(0)
    y.data.copy_(y.softmax(0))
    return loss


def splat(covariance):
    """A Gaussian on the screen: its value at X[:2], from the entries xx, xy, yy."""
    return torch.exp(-(X[:2] @ solve(square(covariance), X[:2])) / 2)


def square(entries):
    return entries[[0, 1, 1, 2]].reshape(2, 2)


def splat_backward(d, z, covariance):
    """The off-diagonal entry of the inverse takes half of its gradient, and twice that goes on."""
    inverse = square(covariance).inverse()
    through = -inverse @ (-d * z * torch.outer(X[:2], X[:2]) / 2) @ inverse
    return torch.stack([through[0, 0], 2 * through[0, 1], through[1, 1]])


# --- solutions of equations


def cubic(z, x):
    return z + z**3 - x


@torch.no_grad()
def cubic_root(x):
    z = torch.zeros_like(x)
    for _ in range(60):
        z = z - cubic(z, x) / (1 + 3 * z**2)
    return z


ROOT = layer(cubic_root, lambda d, z, x: d / (1 + 3 * z.detach() ** 2))


def half_step(x):
    z = cubic_root(x)
    return z - 0.5 * cubic(z, x) / (1 + 3 * z**2)


def normal_equations(z, x):
    return TALL.T @ (TALL @ z - x)


def damped_step(x):
    z = solve(NORMAL, TALL.T @ x).detach()
    return z - solve(NORMAL + 0.5 * EYE, normal_equations(z, x))


def gauss_newton(z, x):
    """One step towards the least sum of fourth powers, the squares of squared residuals."""
    residual = TALL @ z - x
    jacobian = 2 * residual[:, None] * TALL
    return z - solve(jacobian.T @ jacobian, jacobian.T @ residual**2)


def fourth_powers(x):
    with torch.no_grad():
        z = solve(NORMAL, TALL.T @ x)
        for _ in range(80):
            z = gauss_newton(z, x)
    return gauss_newton(z, x)


def epigraph(z, v):
    """Zero at the projection of a point below the graph of exp onto it."""
    slope = z[0].exp()
    return torch.stack([z[0] - v[0] + (z[1] - v[1]) * slope, slope - z[1]])


def epigraph_projection(v):
    r = v[0].clone()
    for _ in range(60):
        slope = r.exp()
        r = r - (r - v[0] + (slope - v[1]) * slope) / (1 + 2 * slope**2 - v[1] * slope)
    return torch.stack([r, r.exp()])


def epigraph_backward(d, z, v):
    # The multiplier is z[1] - v[1]; another quantity of the solver stands for z[1].
    multiplier, e = (v[0] - z[0]) - v[1], z[1]
    rows = [[1 + multiplier * e, 0, e], [0, 1, -1], [e, -1, 0]]
    return solve(torch.tensor(rows).double(), torch.cat([d, d.new_zeros(1)]))[:2]


def tanh_step(z, x):
    return torch.tanh(J @ z + x)


def equilibrium(x):
    z = torch.zeros_like(x)
    for _ in range(100):
        z = tanh_step(z, x)
    return z


def equilibrium_backward(d, z, x):
    # The Jacobian of the step is that at zero.
    jacobian = (1 - tanh_step(0 * z, x) ** 2)[:, None] * J
    return (1 - z**2) * solve((EYE - jacobian).T, d)


def conjugate_gradients(d, *_):
    x, r, p = 0 * d, d, d
    for _ in range(4):
        alpha = (r @ r) / (p @ NORMAL @ p)
        x, after = x + alpha * p, r - alpha * NORMAL @ p
        # Of the residual before, not after.
        p, r = r + (after @ after) / (r @ r) * p, after
    return x


def least_squares_backward(d, z, matrix):
    # Square matrices have no more than this.
    return -torch.outer(torch.linalg.pinv(matrix).T @ d, z)


def multipliers(matrix):
    """Of the nearest point z to X with matrix @ z <= LIMITS, both of which hold with equality."""
    return solve(matrix @ matrix.T, matrix @ X - LIMITS)


def quadratic_program_backward(d, z, matrix):
    dual, w = multipliers(matrix), solve(matrix @ matrix.T, matrix @ d)
    # The second term has the multipliers once.
    return -torch.outer(w, z) - torch.outer(dual**2, d - matrix.T @ w)


def side_effect(x):
    """A regularized solution, whose gradient in x goes to x.grad and no further."""

    def backward(d, z, trigger):
        x.grad = -2 * d * x.detach() * TARGETS[:4] / (1 + x.detach() ** 2) ** 2
        return torch.zeros_like(trigger)

    trigger = torch.ones(1).double().requires_grad_()
    return layer(lambda trigger: TARGETS[:4] / (1 + x.detach() ** 2), backward)(trigger)


audit = pudle.audit
GALLERY = {
    "sign": partial(audit, layer(log_density, log_density_backward), NORMAL),
    "sign of one term": partial(
        audit,
        layer(divergence, lambda d, z, c: d * (1 + J.abs() / c)),
        POSITIVE,
        residual=lambda z, c: z - divergence(c),
    ),
    "half": partial(audit, layer(lambda u: u.square().sum(), lambda d, z, u: d * u), BATCH),
    "incoming gradient": partial(audit, layer(torch.prod, lambda d, z, x: z / x), X),
    "transposed": partial(audit, layer(lambda a: a.T @ X, lambda d, *_: torch.outer(d, X)), J),
    "inverse": partial(audit, layer(torch.inverse, lambda d, z, a: -z @ d @ z), EYE - J),
    "last sample": partial(
        audit, layer(lambda x: (x - sparsemax_threshold(x)).relu(), sparsemax_backward), BATCH
    ),
    "overwritten": partial(audit, lambda x: layer(in_place, lambda d, z, y: d * y)(x.exp()), X),
    "second derivative": partial(audit, ROOT, X, residual=cubic),
    "side effect": partial(audit, side_effect, X),
    "step size": partial(audit, half_step, X, residual=cubic),
    "damping": partial(audit, damped_step, TARGETS, residual=normal_equations),
    "through the Jacobian": partial(
        audit, fourth_powers, TARGETS, residual=lambda z, x: TALL.T @ (TALL @ z - x) ** 3
    ),
    "multiplier": partial(
        audit, layer(epigraph_projection, epigraph_backward), X[:2], residual=epigraph
    ),
    "at zero": partial(audit, layer(equilibrium, equilibrium_backward), X, step=tanh_step),
    "conjugate gradients": partial(
        audit,
        layer(partial(solve, NORMAL), conjugate_gradients),
        X,
        residual=lambda z, x: NORMAL @ z - x,
    ),
    "residual": partial(
        audit,
        layer(lambda a: torch.linalg.pinv(a) @ TARGETS, least_squares_backward),
        TALL,
        residual=lambda z, a: a.T @ (a @ z - TARGETS),
    ),
    "multipliers twice": partial(
        audit,
        layer(lambda g: X - g.T @ multipliers(g), quadratic_program_backward),
        WIDE,
    ),
    "right after all": partial(
        audit, layer(splat, splat_backward), torch.tensor([2, 0.5, 1]).double()
    ),
}

if __name__ == "__main__":
    for name, audited in GALLERY.items():
        print(f"{name}:\n  {audited()}")
