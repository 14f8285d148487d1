"""A layer under audit, as a function of the inputs and the parameters whose gradients are in
question.
"""

import contextlib
import inspect
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import FrameType
from typing import Any, TypeGuard, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from ..algorithms.unrolling import gradients
from ..errors import InvalidArgument
from ..peers import run_jax
from ..streams import generator
from ..validation import check_scalar
from .distances import ROUNDED, distance

T = TypeVar("T")
#: Numbers, in float64.
Array = NDArray[np.float64]
#: Lines of code that run more often than this in one call are a loop, and functions that a layer
#: calls more often than that.
MAX_LINE_RUNS, MAX_FUNCTION_CALLS = 2, 20
#: Packages whose loops are none of a layer's.
PASSED_OVER = {"torch", "numpy", "pudle", *sys.stdlib_module_names}
#: Steps and weights of a difference quotient of fourth order.
STENCIL = ((1e-3, 2e3 / 3), (-1e-3, -2e3 / 3), (2e-3, -1e3 / 12), (-2e-3, 1e3 / 12))


@dataclass(frozen=True, eq=False)
class AuditedPart:
    """An input or a parameter whose gradient is audited; pairs of real numbers if it is complex.

    Attributes
    ----------
    index : int
        Its place among the parts, from 0.
    name : str
        What messages call it, such as ``input 0 (x)``.
    tensor : Tensor
        Its entries as they are given.
    span : slice
        The place of its entries in theta.
    unit : float
        The power of two that gives its entries when those in theta are multiplied by it.
    symmetric : bool
        Whether it is varied as a symmetric matrix.
    complex : bool
        Whether it is given in complex numbers.
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
    """The function under audit, as a scalar function of one vector: its loss against theta.

    Its parts are the inputs and parameters whose gradients are audited. Theta holds the entries of
    all parts, each divided by the unit of its part. A call has new tensors in place of the parts;
    parameters of a module are put back after it.

    Attributes
    ----------
    call : callable
    inputs : tuple of object
        What it is called with.
    wrt : tuple of int or str
        The parts: an index of `inputs`, or the name of a parameter of the module.
    loss : callable or None
        See `audit`; None stands for a sum of the outputs, each divided by its size, with random
        weights.
    seed : int
        Seed of these weights, and of all directions.
    symmetric : tuple of int
        The indices of the parts that are varied as symmetric matrices.
    """

    call: Callable[..., object]
    inputs: tuple[object, ...]
    wrt: tuple[int | str, ...]
    loss: Callable[..., object] | None
    seed: int
    symmetric: tuple[int, ...] = ()

    # --- its parts

    @cached_property
    def module(self) -> torch.nn.Module:
        """The module whose parameters are meant by names: the layer, or the one whose method it is;
        one without any for a function.
        """
        owner = getattr(self.call, "__self__", self.call)
        return owner if isinstance(owner, torch.nn.Module) else torch.nn.Module()

    @cached_property
    def parts(self) -> list[AuditedPart]:
        """The parts in the order of `wrt`, with their entries as they are given.

        One that is no tensor of real or complex numbers raises InvalidArgument.
        """
        candidates: dict[int | str, object] = dict(enumerate(self.inputs))
        candidates |= self.module.named_parameters()
        start, parts = 0, []
        for index, name in enumerate(self.wrt):
            tensor = candidates.get(name)
            if not is_number_tensor(tensor):
                usable = [key for key, value in candidates.items() if is_number_tensor(value)]
                raise InvalidArgument(
                    f"wrt={name!r} is no tensor of real or complex numbers among inputs and"
                    f" parameters: choose from {', '.join(map(self.shown_key, usable))}"
                )
            (real,) = real_tensors(tensor.detach())
            span = slice(start, start := start + real.numel())
            part = AuditedPart(
                index,
                self.label(name),
                real,
                span,
                unit_of(real),
                symmetric=index in self.symmetric,
                complex=tensor.is_complex(),
            )
            parts.append(part)
        return parts

    def label(self, name: int | str) -> str:
        """Return ``parameter NAME`` for a name, and for a number ``input N (ARGUMENT)`` with what
        the layer's signature calls that argument, or ``input N`` where it does not tell.
        """
        if isinstance(name, str):
            return f"parameter {name}"
        argument = self.argument_name(name)
        return f"input {name} ({argument})" if argument else f"input {name}"

    def argument_name(self, index: int) -> str:
        """Return the name of an input in the layer's signature, empty where it does not tell."""
        with contextlib.suppress(ValueError, TypeError, IndexError):
            # A module's call and the apply of a function do not tell.
            owner = getattr(self.call, "__self__", self.call)
            signature = inspect.signature(getattr(owner, "forward", self.call))
            parameters = [
                parameter for parameter in signature.parameters.values() if parameter.name != "ctx"
            ]
            if parameters[index].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
                return parameters[index].name
        return ""

    def key_of(self, name: int | str) -> int | str:
        """Return the number of an input that is named as its argument, or as messages call it, and
        any other name or number as it is; a parameter of the module comes before an argument of
        that name.
        """
        if isinstance(name, int) or name in dict(self.module.named_parameters()):
            return name
        for index in range(len(self.inputs)):
            if name in (self.argument_name(index), self.label(index)):
                return index
        return name.removeprefix("parameter ")

    def shown_key(self, key: int | str) -> str:
        """Return a choice as it is written: a name in quotes, or a number, with the name of the
        argument that may be given in its place.
        """
        argument = self.argument_name(key) if isinstance(key, int) else ""
        return f"{key!r} or {argument!r}" if argument else repr(key)

    def with_symmetric_parts(self) -> "Layer":
        """Return the layer with those symmetric matrices marked of which it reads one half alone,
        or refuses to take others, or whose gradient is symmetric or triangular by convention; the
        rest may be symmetric by accident.

        For each symmetric matrix the layer is called and differentiated.
        """
        marked = [
            part.index
            for part in self.parts
            if is_symmetric(part.tensor) and self.treats_as_symmetric(part)
        ]
        return replace(self, symmetric=tuple(marked))

    def treats_as_symmetric(self, part: AuditedPart) -> bool:
        """Return whether the layer takes a symmetric matrix for one that is always symmetric: it is
        called with either half changed, and differentiated. True if it raises an error then.
        """
        tensor, moved = part.tensor, self.theta.repeat(3, 1)
        half = 1e-3 * torch.ones_like(tensor).triu(1)
        moved[1, part.span] += half.flatten()
        moved[2, part.span] += half.mT.flatten()
        with contextlib.suppress(Exception):
            value, value_above, value_below = map(self.value, moved)
            gradient = self.gradient(self.theta)[part.span].reshape(tensor.shape)
            conventions = np.tril(gradient), np.triu(gradient), gradient.swapaxes(-1, -2)
            nearest = min(distance(convention, gradient) for convention in conventions)
            reads_one_half = (value_above == value) != (value_below == value)
            return reads_one_half or nearest <= ROUNDED
        return True

    # --- theta, the vector of all entries

    @cached_property
    def theta(self) -> Tensor:
        """The vector at which the layer is audited: the entries of the parts as they are given, in
        the units of the parts.
        """
        return torch.cat([part.tensor.double().flatten() / part.unit for part in self.parts])

    def tensors_at(self, theta: Tensor) -> list[Tensor]:
        """Return new tensors of the parts for a theta, in its graph, in the layout in which they
        are given, which may have gaps. Of a symmetric matrix both halves are varied alike.
        """
        tensors = []
        for part in self.parts:
            entries = part.unit * theta[part.span].view_as(part.tensor)
            if part.symmetric:
                entries = (entries + entries.mT) / 2
            tensor = dense(torch.empty_like(part.tensor).copy_(entries))
            tensors.append(torch.view_as_complex(tensor) if part.complex else tensor)
        return tensors

    def largest_distance(self, gradient: Array, expected: Array) -> float:
        """Return the distance between gradients, in the part where it is largest."""
        return max(distance(gradient[part.span], expected[part.span]) for part in self.parts)

    @contextlib.contextmanager
    def inputs_at(self, theta: Tensor) -> Iterator[list[object]]:
        """Yield the inputs with the parts of a theta in their place, as `inputs_with` does."""
        with self.inputs_with(self.tensors_at(theta)) as inputs:
            yield inputs

    @contextlib.contextmanager
    def inputs_with(self, tensors: Sequence[Tensor]) -> Iterator[list[object]]:
        """Yield the inputs with tensors in the place of the parts.

        Parameters of the module are exchanged for tensors meanwhile, and put back at the end.
        """
        inputs = [*self.inputs]
        with contextlib.ExitStack() as afterwards:
            for name, tensor in zip(self.wrt, tensors, strict=True):
                if isinstance(name, int):
                    inputs[name] = tensor
                else:
                    path, _, last = name.rpartition(".")
                    # Other tensors are no parameters.
                    owner: dict[str, Any] = self.module.get_submodule(path)._parameters
                    afterwards.callback(owner.__setitem__, last, owner[last])
                    owner[last] = tensor
            yield inputs

    # --- values

    def loss_of(self, outputs: object, inputs: Sequence[object]) -> Tensor:
        """Return the loss of what the layer returned, a tensor of one number in its graph.

        The loss that was given gets the inputs too if it takes them. InvalidArgument says that it
        returns no such number.
        """
        if self.loss is None:
            pairs = zip(self.output_weights, real_tensors(outputs), strict=True)
            return torch.stack([(weight * output).sum() for weight, output in pairs]).sum()
        try:
            inspect.signature(self.loss).bind(outputs, *inputs)
        except (TypeError, ValueError):
            inputs = ()
        return check_scalar("loss", self.loss(outputs, *inputs))

    @cached_property
    def output_weights(self) -> list[Tensor]:
        """Weights of the outputs in the default loss, one tensor for each: random, from the layer's
        seed, and divided by the output's size, for which the layer is called once.
        """
        random = generator(self.seed, "weights of outputs under audit")
        return [
            torch.as_tensor(
                random.standard_normal(output.shape) / (root_mean_square(output) or 1.0)
            ).to(output)
            for output in real_tensors(self.outputs(self.theta))
        ]

    def outputs(self, theta: Tensor) -> object:
        """Call the layer at a theta without a gradient, and return what it returns."""

        def call(theta: Tensor) -> object:
            with self.inputs_at(theta) as inputs:
                return self.call(*inputs)

        return without_gradient(call, theta)

    def output_arrays(self) -> list[Array]:
        """Return the real numbers that the layer returns at theta."""
        tensors = real_tensors(self.outputs(self.theta))
        return [tensor.double().numpy(force=True) for tensor in tensors]

    @contextlib.contextmanager
    def loss_at(self, theta: Tensor) -> Iterator[Tensor]:
        """Call the layer at a theta, and yield the loss, with a graph that holds the layer's own
        backward pass.

        Parameters are exchanged until the context is left, because a backward pass may read them
        again, as the adjoint of an ordinary differential equation does.
        """
        with self.inputs_at(theta) as inputs:
            yield self.loss_of(self.call(*inputs), inputs)

    def value(self, theta: Tensor) -> float:
        """Call the layer at a theta, and return the loss as a number."""

        def loss(theta: Tensor) -> Tensor:
            with self.loss_at(theta) as loss:
                return loss

        return without_gradient(loss, theta).item()

    # --- derivatives

    @torch.enable_grad()
    def gradient(self, theta: Tensor, between: Tensor | None = None) -> Array:
        """Call the layer at a theta, and return the gradient of the loss that its own backward pass
        gives, zero where there is no dependence.

        With `between`, another theta, the layer is called there after the forward pass and before
        the backward pass.
        """
        leaf = theta.clone().requires_grad_()
        with self.loss_at(leaf) as loss:
            if between is not None:
                self.outputs(between)
            return gradients(loss, (leaf,))[0].numpy(force=True)

    @torch.enable_grad()
    def responses(
        self,
        incoming: Sequence[tuple[float, float]],
        during: contextlib.AbstractContextManager[object] | None = None,
    ) -> list[Array]:
        """Return the gradients for other ones that come in: for each pair, that multiple of the
        loss plus that multiple of a second loss; all through one graph, inside the context
        `during`.

        The layer is called once. Numpy warns of nothing meanwhile.
        """
        leaf = self.theta.clone().requires_grad_()
        with self.inputs_at(leaf) as inputs:
            outputs = self.call(*inputs)
            losses = [self.loss_of(outputs, inputs)]
            if any(of_second for _, of_second in incoming):
                losses.append(self.second_loss(outputs, losses[0]))
            with during or contextlib.nullcontext(), np.errstate(all="ignore"):
                return [gradient_of_sum(losses, multiples, leaf) for multiples in incoming]

    def second_loss(self, outputs: object, loss: Tensor) -> Tensor:
        """Return a sum of the outputs whose weights have other sizes than the derivatives of the
        loss in them, and the other sign; random factors are from the layer's seed.

        It is the loss itself where no output requires a gradient.
        """
        tensors = [output for output in tree_leaves(outputs) if is_number_tensor(output)]
        live = [output for output in tensors if output.requires_grad]
        if not live or not loss.requires_grad:
            return loss
        derivatives = torch.autograd.grad(loss, live, retain_graph=True, materialize_grads=True)
        random = generator(self.seed, "second loss under audit")
        terms = []
        for output, derivative in zip(real_tensors(live), real_tensors(derivatives), strict=True):
            factors = derivative.new_tensor(-random.uniform(1.5, 3.0, derivative.shape))
            terms.append((factors * derivative * output).sum())
        return torch.stack([term.to(loss.dtype) for term in terms]).sum()

    @torch.enable_grad()
    def second_derivative(self, along: Tensor) -> float:
        """Return the second derivative of the loss along a direction, by differentiating twice.

        Raises
        ------
        RuntimeError
            If the backward pass is marked as one that torch must not differentiate.
        """
        leaf = self.theta.clone().requires_grad_()
        # Torch heeds a mark only where the gradient that comes in can be differentiated.
        incoming = leaf.new_ones(()).requires_grad_()
        with self.loss_at(leaf) as loss:
            (first,) = torch.autograd.grad(loss, leaf, incoming, create_graph=True)
            if any("Error" in node.name() for node in graph_nodes(first)):
                raise RuntimeError("marked with once_differentiable")
            return (gradients(first @ along, (leaf,))[0] @ along).item()

    @cached_property
    def jacobians(self) -> tuple[Array, Array]:
        """Two Jacobians of all outputs in theta: by the backward pass, and by differences of fourth
        order; shape (entries of the outputs, entries of theta) each. They are computed once.

        The layer is called and differentiated once for each entry of its outputs, and called four
        times for each entry of theta.
        """
        theta = self.theta

        def flat(outputs: object) -> Tensor:
            return torch.cat([output.double().flatten() for output in real_tensors(outputs)])

        def row(index: int) -> Array:
            return replace(self, loss=lambda outputs: flat(outputs)[index]).gradient(theta)

        def column(along: Tensor) -> Tensor:
            along = along * torch.where(theta == 0, 1.0, theta.abs())
            terms = (weight * flat(self.outputs(theta + h * along)) for h, weight in STENCIL)
            return sum(terms, theta.new_zeros(())) / along.sum()

        columns = torch.stack([column(unit) for unit in torch.eye(len(theta)).to(theta)], 1)
        return np.array([*map(row, range(len(columns)))]), columns.numpy(force=True)

    # --- loops

    @cached_property
    def has_loop(self) -> bool:
        """True if the forward pass, which is run once under a trace, runs a loop: it may be a
        solver that stops early.
        """
        with counted_lines() as counts:
            self.outputs(self.theta)
        return has_repeated_line(counts)

    @cached_property
    def backward_has_loop(self) -> bool:
        """True if the backward pass, which is run once under a trace, runs a loop: it may be a
        solver with a tolerance.
        """
        with torch.enable_grad():
            leaf = self.theta.clone().requires_grad_()
            with self.loss_at(leaf) as loss, counted_lines() as counts:
                gradients(loss, (leaf,))
        return has_repeated_line(counts)


def gradient_of_sum(losses: Sequence[Tensor], multiples: Sequence[float], leaf: Tensor) -> Array:
    """Return the gradient of a sum of multiples of losses, whose graphs are kept; zeros if no loss
    with a multiple has a graph.
    """
    pairs = zip(losses, multiples, strict=False)
    terms = [(loss, factor) for loss, factor in pairs if factor and loss.requires_grad]
    if not terms:
        return np.zeros(leaf.shape)
    (gradient,) = torch.autograd.grad(
        [loss for loss, _ in terms],
        leaf,
        [torch.full_like(loss, factor) for loss, factor in terms],
        retain_graph=True,
        materialize_grads=True,
    )
    return gradient.numpy(force=True)


def graph_nodes(tensor: Tensor) -> set[Any]:
    """Return the nodes of the graph that computed a tensor."""
    nodes, edge = set[Any](), {*filter(None, [tensor.grad_fn])}
    while edge := edge - nodes:
        nodes |= edge
        edge = {parent for node in edge for parent, _ in node.next_functions if parent}
    return nodes


@contextlib.contextmanager
def counted_lines() -> Iterator[Counter[tuple[object, int]]]:
    """Count, while this lasts, how often lines of code other than of torch run in one call of their
    function, and how often functions are called; in units in which both have the same limit.

    The counts are filled meanwhile. The trace function of this thread is replaced, and set back at
    the end.
    """
    counts = Counter[tuple[object, int]]()

    def watch(frame: FrameType, event: str, argument: object) -> Any:
        """Count an event, and return the function that watches the frame; None for a frame that is
        passed over.
        """
        name: str = frame.f_globals.get("__name__", "")
        if name.partition(".")[0] in PASSED_OVER:
            if name == run_jax.__module__:
                # What jax runs is compiled.
                counts[name, 0] += MAX_FUNCTION_CALLS**2
            return None
        if event == "line":
            counts[frame, frame.f_lineno] += MAX_FUNCTION_CALLS
        elif event == "call":
            counts[frame.f_code, 0] += MAX_LINE_RUNS
        return watch

    before = sys.gettrace()
    sys.settrace(watch)
    try:
        yield counts
    finally:
        sys.settrace(before)


def has_repeated_line(counts: Counter[tuple[object, int]]) -> bool:
    """Return whether a line runs several times in one call of its function, or a function is called
    many times.
    """
    return max(counts.values(), default=0) > MAX_LINE_RUNS * MAX_FUNCTION_CALLS


class Dense(torch.autograd.Function):
    """A copy, whose backward pass makes a sparse gradient, such as an embedding's, dense."""

    @staticmethod
    def forward(ctx: object, tensor: Tensor) -> Tensor:
        # A layer may change it in place.
        return tensor.clone()

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return gradient.to_dense()


# A function of torch's without types.
dense: Callable[[Tensor], Tensor] = Dense.apply


def without_gradient(function: Callable[[Tensor], T], theta: Tensor) -> T:
    """Call a function at a theta without its gradient, and return its result detached.

    Where that raises RuntimeError it is called again with a gradient, as a layer that registers
    hooks needs.
    """
    with torch.no_grad(), contextlib.suppress(RuntimeError):
        return function(theta)
    with torch.enable_grad():
        result = function(theta.clone().requires_grad_())
    result = tree_map_only(Tensor, torch.detach, result)
    return result


def real_tensors(outputs: object) -> list[Tensor]:
    """Return the tensors of real or complex numbers in what a layer returns, complex ones as pairs
    of real numbers; InvalidArgument if there is none.
    """
    tensors = [
        torch.view_as_real(leaf) if leaf.is_complex() else leaf
        for leaf in tree_leaves(outputs)
        if is_number_tensor(leaf)
    ]
    if not tensors:
        raise InvalidArgument(
            f"the layer returns {type(outputs).__name__} without a tensor of real numbers: return"
            " one at least"
        )
    return tensors


def is_symmetric(tensor: Tensor) -> bool:
    """Return whether a tensor holds square matrices that are symmetric up to rounding."""
    if tensor.ndim < 2 or tensor.shape[-1] != tensor.shape[-2]:
        return False
    # numpy has no bfloat16.
    entries = tensor.double()
    return distance(entries.mT.numpy(), entries.numpy()) <= ROUNDED


def unit_of(tensor: Tensor) -> float:
    """Return the power of two below the size of a tensor, which leaves all digits as they are."""
    size = root_mean_square(tensor.double())
    return float(2.0 ** np.floor(np.log2(size))) if size > 0 else 1.0


def root_mean_square(values: Tensor) -> float:
    """Return the root of the mean square, NaN without any values."""
    return (values.square().mean() ** 0.5).item()


@contextlib.contextmanager
def in_double(module: torch.nn.Module) -> Iterator[None]:
    """Convert a module's parameters and buffers to float64 while this lasts; their own data are put
    back at the end.
    """
    with contextlib.ExitStack() as afterwards:
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point():
                afterwards.callback(setattr, tensor, "data", tensor.data)
                tensor.data = tensor.data.double()
        yield


def is_number_tensor(value: object) -> TypeGuard[Tensor]:
    """Return whether a value is a tensor of real or complex numbers."""
    return isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex())


def in_double_precision(value: object) -> object:
    """Return a tensor of real or complex numbers in double precision, detached, anything else as it
    is.
    """
    if not is_number_tensor(value):
        return value
    return value.detach().to(torch.promote_types(value.dtype, torch.float64))


def only_single(arrays: Sequence[Array]) -> bool:
    """Return whether numbers of float64 are all numbers of float32; whole numbers do not count, and
    without others it is False.
    """
    numbers = np.concatenate(arrays, axis=None)
    numbers = numbers[numbers != np.round(numbers)]
    with np.errstate(over="ignore"):
        return bool(numbers.size and (numbers == numbers.astype(np.float32)).all())
