"""What a file in `packages` is made of, and two ways to a gradient that do not use `pudle.audit`.

A file in `packages` has the distribution's name; its docstring begins with the package's name and a
colon. `LAYERS` lists functions that return a `Layer`; the docstring of each says what is asked.
`WITH` may list other distributions whose versions matter.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rows import Status
from torch import Tensor
from torch.utils._pytree import tree_leaves

Function = Callable[..., Any]
#: First step of the differences, relative to an entry or to 1 if that is larger, and how often it
#: is halved.
STEP, HALVINGS = 0.02, 4
#: How much further from two ways to a gradient a wrong one is than these are from each other.
CLEARLY = 10


@dataclass(frozen=True)
class Known:
    """Why a gradient is not right, if that is known.

    Attributes
    ----------
    status : Status
        `APPROXIMATION`, `DOCUMENTED`, `TICKET`, `SILENT` where there is no gradient and nothing
        promises one, or `NEW` where nothing was found.
    text : str
        In Markdown, with a link to where the package says so, or to the ticket.
    """

    status: Status
    text: str


@dataclass(frozen=True)
class Layer:
    """A layer of a package and what it is called with.

    Attributes
    ----------
    function : callable
        What `pudle.audit` takes.
    inputs : sequence
        In float64.
    options : mapping
        Further arguments of `pudle.audit`: wrt, loss, step, residual, tighten.
    known : Known, optional
        What to say if the verdict is not ``right``.
    other : callable, optional
        The same outputs of the same inputs by a closed form or another library, with a gradient
        that torch takes. Without it no ``wrong`` is confirmed.
    """

    function: Function
    inputs: Sequence[object]
    options: Mapping[str, Any] = field(default_factory=dict)
    known: Known | None = None
    other: Function | None = None


@dataclass(frozen=True)
class Confirmation:
    """How far gradients are from each other, relative to that by differences; of the input or
    parameter where the layer's is furthest off.

    Attributes
    ----------
    differences : float
        From the layer's to that by differences.
    other, apart : float
        From the layer's to the other library's, and from this to the one by differences; NaN if
        there is no other.
    """

    differences: float
    other: float
    apart: float

    @property
    def wrong(self) -> bool:
        """True if both ways agree with each other and not with the layer."""
        return CLEARLY * self.apart <= min(self.differences, self.other)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    """Return a tensor of normal numbers, always the same."""
    return torch.as_tensor(np.random.default_rng(seed).standard_normal(shape))


def confirm(layer: Layer) -> Confirmation:
    """Compare a layer's gradient with Richardson differences and with the other library's, for a
    random combination of the outputs.
    """
    inputs, varied = leaves(layer)
    loss = layer.options.get("loss", combined)

    def gradient(function: Function) -> list[NDArray[np.float64]]:
        # A result that hangs on nothing has the gradient zero; NaN is off by any distance.
        value = loss(function(*inputs)) + 0 * varied[0].sum()
        gradients = torch.autograd.grad(value, varied, allow_unused=True, materialize_grads=True)
        arrays = [part.numpy(force=True) for part in gradients]
        return [np.where(np.isnan(array), np.inf, array) for array in arrays]

    def value() -> float:
        return float(loss(layer.function(*inputs)).item())

    by_layer = gradient(layer.function)
    by_differences = [differences(value, tensor) for tensor in varied]
    by_library = [np.full(tensor.shape, np.nan) for tensor in varied]
    if layer.other:
        by_library = gradient(layer.other)
    confirmations = map(confirmation, by_layer, by_differences, by_library)
    return max(confirmations, key=lambda confirmation: confirmation.differences)


def confirmation(
    by_layer: NDArray[np.float64],
    by_differences: NDArray[np.float64],
    by_library: NDArray[np.float64],
) -> Confirmation:
    """Return how far three gradients in one part are from each other."""
    gaps = by_layer - by_differences, by_layer - by_library, by_library - by_differences
    # A gradient of zero has no size.
    with np.errstate(all="ignore"):
        size = np.linalg.norm(by_differences)
        return Confirmation(*(float(np.linalg.norm(gap) / size) for gap in gaps))


def leaves(layer: Layer) -> tuple[list[object], list[Tensor]]:
    """Return the inputs, copied, and those of them and of the parameters that are audited."""
    inputs = [
        value.detach().clone() if isinstance(value, Tensor) else value for value in layer.inputs
    ]
    candidates: dict[int | str, Tensor] = {
        index: value
        for index, value in enumerate(inputs)
        if isinstance(value, Tensor) and value.is_floating_point()
    }
    module = getattr(layer.function, "__self__", layer.function)
    if isinstance(module, torch.nn.Module):
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                candidates[name] = parameter
    wrt: int | str | Sequence[int | str] = layer.options.get("wrt", [*candidates])
    chosen = [wrt] if isinstance(wrt, int | str) else wrt
    return inputs, [candidates[name].requires_grad_() for name in chosen]


def combined(outputs: object) -> Tensor:
    """Return a sum of all real outputs with random weights."""
    tensors = [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor)]
    terms = []
    for index, tensor in enumerate(tensors):
        real = torch.view_as_real(tensor) if tensor.is_complex() else tensor
        if real.is_floating_point():
            terms.append((drawn(*real.shape, seed=index) * real).sum())
    return torch.stack(terms).sum()


def differences(value: Callable[[], float], tensor: Tensor) -> NDArray[np.float64]:
    """Return the derivatives of a value in the entries of a tensor: central differences, whose
    errors of second, fourth, ... order Richardson's extrapolation takes away. The tensor is changed
    in place meanwhile.
    """
    derivatives = np.empty(tensor.shape)
    data = tensor.detach()
    for place in np.ndindex(*tensor.shape):
        start = data[place].item()
        rows: list[float] = []
        for halving in range(HALVINGS):
            step = STEP * max(1.0, abs(start)) / 2**halving
            ends = []
            for sign in (1, -1):
                data[place] = start + sign * step
                ends.append(value())
            rows = [*extrapolated((ends[0] - ends[1]) / (2 * step), rows)]
        data[place] = start
        derivatives[place] = rows[-1]
    return derivatives


def extrapolated(quotient: float, coarser: Sequence[float]) -> Iterator[float]:
    """Yield a difference quotient in ever higher orders, from those with twice the step."""
    yield quotient
    for order, before in enumerate(coarser, 1):
        quotient += (quotient - before) / (4**order - 1)
        yield quotient


def asked(build: Callable[[], Layer]) -> str:
    """Return the question about a layer: the first line of its function's docstring."""
    return (inspect.getdoc(build) or build.__name__).splitlines()[0].rstrip(".")
