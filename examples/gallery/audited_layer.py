"""
A wrong gradient that trains
============================

A deep-equilibrium layer returns the solution of an equation, and its backward
pass is often written by hand. A mistake there raises no error, and the
training loss falls all the same. ``pudle.audit`` finds it.
"""

# %%
# Two layers
# ----------
# The layer solves ``z = tanh(W z + U x)`` by iteration, and its backward pass
# one linear system for each sample. One of the two layers has a mistake.

import torch

import pudle


def step(z, x, W, U):
    return torch.tanh(z @ W.T + x @ U.T)


class Equilibrium(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, W, U):
        z = last = x.new_zeros(len(x), len(W))
        for _ in range(500):
            z, last = step(z, x, W, U), z
            if torch.allclose(z, last, rtol=0, atol=1e-13):
                break
        ctx.save_for_backward(z, x, W, U)
        return z

    @staticmethod
    def backward(ctx, gradient):
        z, x, W, U = ctx.saved_tensors
        slope = 1 - z**2
        system = torch.eye(len(W), dtype=W.dtype) - slope[:, :, None] * W
        v = slope * torch.linalg.solve(system, gradient)
        return v @ U, v.T @ z, v.T @ x


class Repaired(Equilibrium):
    @staticmethod
    def backward(ctx, gradient):
        z, x, W, U = ctx.saved_tensors
        slope = 1 - z**2
        system = torch.eye(len(W), dtype=W.dtype) - slope[:, :, None] * W
        v = slope * torch.linalg.solve(system.mT, gradient)
        return v @ U, v.T @ z, v.T @ x


# %%
# The audit
# ---------
# It is given inputs and the equation, and compares with the implicit gradient
# at the solution. In a test, ``pudle.testing.assert_gradient`` takes the same
# arguments.

from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy

digits = load_digits()
images = torch.tensor(digits.data[:300] / 16)
labels = torch.tensor(digits.target[:300])


def draw():
    """Return the weights of the layer, of its input and of a classifier."""
    random = torch.Generator().manual_seed(0)
    W, U, V = (
        torch.randn(shape, generator=random, dtype=torch.float64)
        for shape in [(16, 16), (16, 64), (10, 16)]
    )
    return 0.9 * torch.linalg.qr(W)[0], U / 8, V / 4


W, U, V = draw()
faulty = pudle.audit(Equilibrium.apply, images[:4], W, U, step=step)
print(faulty)

# %%
# The other one:

repaired = pudle.audit(Repaired.apply, images[:4], W, U, step=step)
print(repaired)

# %%
# What the mistake costs
# ----------------------
# Both train a classifier of digits, from the same weights.


def train(layer, steps=100):
    """Return the gradient in W before a training, and the loss along it."""
    W, U, V = weights = [weight.requires_grad_() for weight in draw()]
    optimizer, losses, first = torch.optim.Adam(weights, 0.003), [], None
    for _ in range(steps):
        loss = cross_entropy(layer(images, W, U) @ V.T, labels)
        optimizer.zero_grad()
        loss.backward()
        first = W.grad.clone() if first is None else first
        optimizer.step()
        losses.append(loss.item())
    return first, losses


wrong_gradient, wrong_losses = train(Equilibrium.apply)
right_gradient, right_losses = train(Repaired.apply)

# %%
# Look
# ----

import matplotlib.pyplot as plt

plt.rcParams.update(
    {"font.size": 13, "axes.spines.top": False, "axes.spines.right": False}
)
WRONG, RIGHT = "#d55e00", "#0072b2"
error = (wrong_gradient - right_gradient).norm() / right_gradient.norm()
behind = sum(loss > wrong_losses[-1] for loss in right_losses)

figure, (left, right) = plt.subplots(
    1, 2, figsize=(8, 5.6), layout="constrained"
)
left.axline((0, 0), slope=1, color=RIGHT, linewidth=2.8)
dots = [
    1e3 * gradient.flatten() for gradient in (right_gradient, wrong_gradient)
]
left.plot(*dots, "o", color=WRONG, alpha=0.7)
left.text(-60, 52, "should lie on\nthe line", color=RIGHT, weight="bold")
left.set_xlabel("right gradient in W (thousandths)")
left.set_ylabel("gradient of the layer (thousandths)")
about = f"The gradient is wrong\nby {100 * error:.0f} % of its norm ..."
left.set_title(about, loc="left")

for losses, color in [(wrong_losses, WRONG), (right_losses, RIGHT)]:
    right.plot(losses, color=color, linewidth=2.8)
right.text(45, 1.62, "as written", color=WRONG, weight="bold")
right.text(12, 0.75, "repaired", color=RIGHT, weight="bold")
last = wrong_losses[-1]
arrow = {"arrowstyle": "<->", "color": "0.3", "shrinkA": 0, "shrinkB": 0}
right.annotate("", (behind, last), (100, last), arrowprops=arrow)
right.text(100, last - 0.12, f"{100 - behind} steps", ha="right")
right.set(xlabel="step of the training", ylabel="loss", ylim=(0, None))
right.set_title("... and the training loss\nfalls all the same", loc="left")
for at in (left, right):
    at.grid(alpha=0.25)
plt.show()

# %%
# :doc:`/audit` explains the verdicts. :doc:`/results/wrong_gradients` has
# mistakes that others published, :doc:`/results/census` layers of released
# packages.
