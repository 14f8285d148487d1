"""A layer under audit, as a function of the inputs and the parameters whose gradients are in
question.
"""

import collections
import contextlib
import dataclasses
import functools
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map

from ..algorithms.unrolling import gradients
from ..errors import InvalidArgument
from ..peers import run_jax
from ..streams import generator
from ..validation import check_scalar
from .closed_forms import Array
from .explanations import distance
from .tolerances import ROUNDED

#: By how much one half of a matrix is changed to see whether it is read.
SLIGHTLY = 1e-3
#: Lines of code that a layer runs more often than this in one call are a loop.
FEW_TIMES = 2
#: Packages whose loops are none of a layer's.
PASSED_OVER = {"torch", "numpy", "pudle", *sys.stdlib_module_names}


@dataclass(frozen=True, eq=False)
class Piece:
    """An input or a parameter, what to call it, where its entries stand in theta, in which unit
    there, and whether it is varied as a symmetric matrix; pairs of real numbers if it is complex.
    """

    index: int
    name: str
    tensor: Tensor
    span: slice
    unit: float
    symmetric: bool
    complex: bool


@dataclass(frozen=True, eq=False)
class Layer:
    """A callable, its inputs, and which of them (numbers), or which parameters of a module (names),
    are varied: its parts, together a vector theta of all their entries in units of each.

    Without a loss it is a sum of the outputs, each divided by its size, with random weights.
    `symmetric` are the numbers of the parts that are varied as symmetric matrices.
    """

    call: Callable[..., Any]
    inputs: tuple[Any, ...]
    wrt: tuple[int | str, ...]
    loss: Callable[..., Any] | None
    seed: int
    symmetric: tuple[int, ...] = ()

    @functools.cached_property
    def module(self) -> torch.nn.Module | None:
        """The module whose parameters are meant by names."""
        owner = getattr(self.call, "__self__", self.call)
        return owner if isinstance(owner, torch.nn.Module) else None

    @functools.cached_property
    def parts(self) -> list[Piece]:
        """The parts as they are given."""
        named = dict(self.module.named_parameters()) if self.module else {}
        given, start, found = dict(enumerate(self.inputs)) | named, 0, []
        for index, name in enumerate(self.wrt):
            tensor: Any = given.get(name)
            if not varies(tensor):
                known = [repr(key) for key, each in given.items() if varies(each)]
                raise InvalidArgument(
                    f"wrt={name!r} is no tensor of real or complex numbers among inputs and"
                    f" parameters: choose from {', '.join(known)}"
                )
            (real,) = reals(tensor.detach())
            span = slice(start, start := start + real.numel())
            size = float(real.double().square().mean() ** 0.5)
            # A power of two leaves all digits as they are.
            unit = 2.0 ** np.floor(np.log2(size)) if size > 0 else 1.0
            half, pairs = index in self.symmetric, tensor.is_complex()
            found.append(Piece(index, self.title(name), real, span, unit, half, pairs))
        return found

    def reading_halves(self) -> "Layer":
        """Return the layer with the symmetric matrices marked of which it reads one half alone, or
        refuses to take others, or whose gradient is symmetric or triangular by convention; the rest
        may be symmetric by accident.
        """
        marked = []
        for part in self.parts:
            tensor = part.tensor
            if (
                tensor.ndim < 2
                or tensor.shape[-1] != tensor.shape[-2]
                or (tensor != tensor.mT).any()
            ):
                continue
            upper, lower = torch.zeros(2, *self.theta.shape).to(self.theta)
            half = SLIGHTLY * torch.ones_like(tensor).triu(1)
            upper[part.span], lower[part.span] = half.flatten(), half.mT.flatten()
            try:
                above, below, both = (
                    self.value(self.theta + each) for each in (upper, lower, 0 * upper)
                )
                gradient = self.gradient(self.theta)[part.span].reshape(tensor.shape)
            except Exception:  # noqa: BLE001
                marked.append(part.index)
                continue
            halves = [np.tril(gradient), np.triu(gradient)]
            same = min(distance(each, gradient) for each in (*halves, gradient.swapaxes(-1, -2)))
            if (above == both) != (below == both) or same <= ROUNDED:
                marked.append(part.index)
        return dataclasses.replace(self, symmetric=tuple(marked))

    @functools.cached_property
    def theta(self) -> Tensor:
        """The entries of the parts as they are given."""
        return torch.cat([each.tensor.double().flatten() / each.unit for each in self.parts])

    def at(self, theta: Tensor) -> list[Tensor]:
        """Return the tensors of the parts, in the layout in which they are given, which may have
        gaps. Of a symmetric matrix both halves are varied alike.
        """
        found = []
        for part in self.parts:
            moved = part.unit * theta[part.span].reshape(part.tensor.shape)
            moved = (moved + moved.mT) / 2 if part.symmetric else moved
            moved = torch.empty_like(part.tensor).copy_(moved)
            found.append(torch.view_as_complex(moved) if part.complex else moved)
        return found

    def apart(self, gradient: Array, other: Array) -> float:
        """Return the distance between gradients, in the part where it is largest."""
        return max(distance(gradient[part.span], other[part.span]) for part in self.parts)

    def title(self, name: int | str) -> str:
        """Return what to call an input or a parameter."""
        if isinstance(name, str):
            return f"parameter {name}"
        with contextlib.suppress(ValueError, TypeError, IndexError):
            parameter = [*inspect.signature(self.call).parameters.values()][name]
            if parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
                return f"input {name} ({parameter.name})"
        return f"input {name}"

    @contextlib.contextmanager
    def placed(self, parts: Sequence[Tensor]) -> Iterator[list[Any]]:
        """Yield the inputs with parts in their place; parameters are exchanged meanwhile."""
        inputs = [*self.inputs]
        with contextlib.ExitStack() as afterwards:
            for name, part in zip(self.wrt, parts, strict=True):
                if isinstance(name, int):
                    inputs[name] = part
                elif self.module:
                    path, _, last = name.rpartition(".")
                    owner: Any = self.module.get_submodule(path)._parameters
                    afterwards.callback(owner.__setitem__, last, owner[last])
                    owner[last] = part
            yield inputs

    def lost(self, outputs: Any, inputs: Sequence[Any]) -> Tensor:
        """Return the loss of what the layer returned."""
        if self.loss is None:
            pairs = zip(self.weights, reals(outputs), strict=True)
            return torch.stack([(weight * each).sum() for weight, each in pairs]).sum()
        try:
            inspect.signature(self.loss).bind(outputs, *inputs)
        except (TypeError, ValueError):
            inputs = ()
        return check_scalar("loss", self.loss(outputs, *inputs))

    @functools.cached_property
    def weights(self) -> list[Tensor]:
        """Random weights of the outputs."""
        random, weights = generator(self.seed, "weights of outputs under audit"), []
        for each in reals(self.outputs(self.theta)):
            size = float(each.square().mean() ** 0.5) if each.numel() else 0.0
            drawn = random.standard_normal(each.shape) / (size or 1.0)
            weights.append(torch.as_tensor(drawn).to(each))
        return weights

    def outputs(self, theta: Tensor) -> Any:
        """Return what the layer returns."""

        def called(theta: Tensor) -> Any:
            with self.placed(self.at(theta)) as inputs:
                return self.call(*inputs)

        return without_gradient(called, theta)

    def loss_at(self, theta: Tensor) -> Tensor:
        """Return the loss, with the layer's gradient."""
        with self.placed(self.at(theta)) as inputs:
            return self.lost(self.call(*inputs), inputs)

    def value(self, theta: Tensor) -> float:
        """Return the loss as a number."""
        return float(without_gradient(self.loss_at, theta))

    @torch.enable_grad()
    def gradient(self, theta: Tensor, between: Tensor | None = None) -> Array:
        """Return the layer's own gradient in theta; `between` the forward and the backward pass it
        is called elsewhere.
        """
        leaf = theta.clone().requires_grad_()
        loss = self.loss_at(leaf)
        if between is not None:
            self.outputs(between)
        return gradients(loss, (leaf,))[0].numpy(force=True)

    @torch.enable_grad()
    def second_derivative(self, along: Tensor) -> float | None:
        """Return the second derivative of the loss along a direction, by differentiating twice;
        None where the backward pass is marked as one that torch must not differentiate.
        """
        leaf = self.theta.clone().requires_grad_()
        # Torch heeds a mark only where the gradient that comes in can be differentiated.
        one = leaf.new_ones(()).requires_grad_()
        (first,) = torch.autograd.grad(self.loss_at(leaf), leaf, one, create_graph=True)
        graph, left = set(), [first.grad_fn]
        while left:
            if (node := left.pop()) and node not in graph:
                graph.add(node)
                left += [each for each, _ in node.next_functions]
        if any("Error" in node.name() for node in graph):
            return None
        return float(gradients(first @ along, (leaf,))[0] @ along)

    @functools.cached_property
    def has_loop(self) -> bool:
        """True if the forward pass runs a line of code, other than of torch, several times:
        it may be a solver that stops early.
        """
        counts = collections.Counter[tuple[str, int]]()

        def watch(frame: Any, event: str, argument: Any) -> Any:
            name = frame.f_globals.get("__name__", "")
            if name.partition(".")[0] in PASSED_OVER:
                # What jax runs is compiled.
                counts[name, 0] += 2 * FEW_TIMES * (name == run_jax.__module__)
                return None
            if event == "line":
                counts[frame.f_code.co_filename, frame.f_lineno] += 1
            return watch

        before = sys.gettrace()
        sys.settrace(watch)
        try:
            self.outputs(self.theta)
        finally:
            sys.settrace(before)
        return max(counts.values(), default=0) > FEW_TIMES


def without_gradient(function: Callable[[Tensor], Any], theta: Tensor) -> Any:
    """Return what a function returns, without its gradient; a layer that registers hooks needs one
    meanwhile.
    """
    with torch.no_grad(), contextlib.suppress(RuntimeError):
        return function(theta)
    with torch.enable_grad():
        made = function(theta.clone().requires_grad_())
    return tree_map(lambda each: each.detach() if isinstance(each, Tensor) else each, made)


def reals(outputs: Any) -> list[Tensor]:
    """Return the tensors of real numbers in what a layer returns, complex ones as pairs."""
    leaves = [each for each in tree_flatten(outputs)[0] if isinstance(each, Tensor)]
    found = [torch.view_as_real(each) if each.is_complex() else each for each in leaves]
    if not (found := [each for each in found if is_real(each)]):
        raise InvalidArgument(
            f"the layer returns {type(outputs).__name__} without a tensor of real numbers: return"
            " one at least"
        )
    return found


@contextlib.contextmanager
def in_double(module: torch.nn.Module | None) -> Iterator[None]:
    """Convert a module to float64 while this lasts."""
    held = [*module.parameters(), *module.buffers()] if module else []
    kept = [(each, each.data) for each in held if each.is_floating_point()]
    try:
        for each, _ in kept:
            each.data = each.data.double()
        yield
    finally:
        for each, data in kept:
            each.data = data


def is_real(value: Any) -> bool:
    """Return whether a value is a tensor of real numbers."""
    return isinstance(value, Tensor) and value.is_floating_point()


def varies(value: Any) -> bool:
    """Return whether a value is a tensor of real or complex numbers."""
    return is_real(value) or (isinstance(value, Tensor) and value.is_complex())


def doubled(value: Any) -> Any:
    """Return a tensor of real or complex numbers in double precision, anything else as it is."""
    if not varies(value):
        return value
    return value.detach().to(torch.promote_types(value.dtype, torch.float64))


def only_single(arrays: Sequence[Array]) -> bool:
    """Return whether numbers of float64 are all numbers of float32."""
    held = np.concatenate([np.ravel(each) for each in arrays])
    held = held[held != np.round(held)]
    with np.errstate(over="ignore"):
        return bool(held.size and (held == held.astype(np.float32)).all())
