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
        made = loss(function(*inputs)) + 0 * varied[0].sum()
        found = torch.autograd.grad(made, varied, allow_unused=True)
        pairs = zip(found, varied, strict=True)
        arrays = [(torch.zeros_like(x) if g is None else g).numpy(force=True) for g, x in pairs]
        return [np.where(np.isnan(each), np.inf, each) for each in arrays]

    own, by_differences = (
        gradient(layer.function),
        [differences(lambda: loss(layer.function(*inputs)).item(), each) for each in varied],
    )
    others = gradient(layer.other) if layer.other else [np.full(x.shape, np.nan) for x in varied]
    # A gradient of zero has no size.
    with np.errstate(all="ignore"):
        found = [
            Confirmation(*(float(np.linalg.norm(a - b) / np.linalg.norm(d)) for a, b in pairs))
            for g, d, o in zip(own, by_differences, others, strict=True)
            for pairs in [((g, d), (g, o), (o, d))]
        ]
    return max(found, key=lambda each: each.differences)


def leaves(layer: Layer) -> tuple[list[object], list[Tensor]]:
    """Return the inputs, copied, and those of them and of the parameters that are audited."""
    inputs = [each.detach().clone() if isinstance(each, Tensor) else each for each in layer.inputs]
    named: dict[int | str, Tensor] = {
        index: each
        for index, each in enumerate(inputs)
        if isinstance(each, Tensor) and each.is_floating_point()
    }
    module = getattr(layer.function, "__self__", layer.function)
    if isinstance(module, torch.nn.Module):
        named |= {name: each for name, each in module.named_parameters() if each.requires_grad}
    wrt: int | str | Sequence[int | str] = layer.options.get("wrt", [*named])
    chosen = [wrt] if isinstance(wrt, int | str) else wrt
    return inputs, [named[each].requires_grad_() for each in chosen]


def combined(outputs: object) -> Tensor:
    """Return a sum of all real outputs with random weights."""
    tensors = [each for each in tree_leaves(outputs) if isinstance(each, Tensor)]
    reals = [torch.view_as_real(each) if each.is_complex() else each for each in tensors]
    weighted = [
        (drawn(*each.shape, seed=index) * each).sum()
        for index, each in enumerate(reals)
        if each.is_floating_point()
    ]
    return torch.stack(weighted).sum()


def differences(value: Callable[[], float], tensor: Tensor) -> NDArray[np.float64]:
    """Return the derivatives of a value in the entries of a tensor: central differences, whose
    errors of second, fourth, ... order Richardson's extrapolation takes away. The tensor is changed
    in place meanwhile.
    """
    found = np.empty(tensor.shape)
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
        found[place] = rows[-1]
    return found


def extrapolated(quotient: float, coarser: Sequence[float]) -> Iterator[float]:
    """Yield a difference quotient in ever higher orders, from those with twice the step."""
    yield quotient
    for order, before in enumerate(coarser, 1):
        quotient += (quotient - before) / (4**order - 1)
        yield quotient


def asked(build: Callable[[], Layer]) -> str:
    """Return what is asked of a layer: the first line of what its function says of itself."""
    return (inspect.getdoc(build) or build.__name__).splitlines()[0].rstrip(".")
