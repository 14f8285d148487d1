"""TorchOpt: differentiable optimizers."""

from collections.abc import Callable

import torch
import torchopt
from census import Known, Layer, Status, drawn
from torch import Tensor

TALL, EYE = drawn(6, 4, seed=2), torch.eye(4).double()


def stationary(z: Tensor, y: Tensor, penalty: Tensor) -> Tensor:
    """Zero at the solution of ridge regression."""
    return TALL.T @ (TALL @ z - y) + penalty.exp() * z


def closed_form(y: Tensor, penalty: Tensor) -> Tensor:
    return torch.linalg.solve(TALL.T @ TALL + penalty.exp() * EYE, TALL.T @ y)


def implicit() -> Layer:
    """Ridge regression by `implicit.custom_root`, in targets and penalty."""

    @torchopt.diff.implicit.custom_root(stationary, argnums=(1, 2))
    def solve(z: Tensor, y: Tensor, penalty: Tensor) -> Tensor:
        return closed_form(y, penalty)

    inputs = drawn(6), torch.tensor(0.3).double()
    layer = lambda y, penalty: solve(torch.zeros(4).double(), y, penalty)  # noqa: E731
    return Layer(layer, inputs, {"residual": stationary}, other=closed_form)


class Weights(torch.nn.Module):
    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(start)


def adam(fused: bool, eps_root: float) -> Callable[[Tensor], Tensor]:
    """Return three steps of Adam on least squares, as a function of the targets."""

    def weights(y: Tensor) -> Tensor:
        model = Weights(drawn(4, seed=5))
        optimizer = torchopt.MetaAdam(model, lr=0.1, use_accelerated_op=fused, eps_root=eps_root)
        for _ in range(3):
            optimizer.step((TALL @ model.w - y).square().sum())
        return model.w

    return weights


#: The operators that were measured.
FALLBACK = (
    " This is the Python fallback, because the compiled operators do not load with torch 2.13;"
    " compiled, with torch 2.1, the ratios of seen to right derivatives are the same."
)


def fused_adam() -> Layer:
    """Three steps of `MetaAdam(use_accelerated_op=True)`, otherwise as it comes, in the targets."""
    text = (
        "The backward pass of the square root takes the root plus eps for the root, as in the row"
        " with `eps_root`: of eps = 1e-8 this is little." + FALLBACK
    )
    layer = adam(True, 0.0)
    return Layer(layer, [drawn(6)], {"tighten": layer}, Known(Status.NEW, text), adam(False, 0.0))


def fused_adam_root() -> Layer:
    """Three steps of `MetaAdam(use_accelerated_op=True, eps_root=1e-4)`, in the targets."""
    text = (
        "The backward pass divides by 1 - b2^t + eps_root where only 1 - b2^t belongs; without"
        " `use_accelerated_op` the gradient is right." + FALLBACK
    )
    layer = adam(True, 1e-4)
    return Layer(layer, [drawn(6)], {"tighten": layer}, Known(Status.NEW, text), adam(False, 1e-4))


LAYERS = [implicit, fused_adam, fused_adam_root]
