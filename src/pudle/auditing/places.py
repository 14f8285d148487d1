"""Mistakes in one term: the gradient of an input is a sum over the places where the equation uses
it, and one of them may be left out.
"""

import itertools
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..algorithms.unrolling import direct_gradients, gradients
from .equation import ImplicitGradients
from .layer import Array, AuditedPart, graph_nodes
from .mistakes import OF_PLACES, Candidate, Mistake

#: Places of one input that are told apart, and how many are also tried together.
MAX_PLACES, MAX_TOGETHER = 8, 4


class Use(NamedTuple):
    """A place where an input is used, an edge of a graph: an operation, and which of its operands
    comes from the input.
    """

    node: Any
    operand: int

    @property
    def operation(self) -> str:
        """What torch calls the operation, such as ``mm`` or ``linalg_solve_ex``."""
        name = re.sub(r"Backward\d*$", "", self.node.name())
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


class Uses(NamedTuple):
    """The places where an equation uses an input or, if that is `computed`, what it computes from
    the input alone or together with others, in the order in which they are run.
    """

    places: list[Use]
    computed: bool


def mistakes_at_places(implicit: ImplicitGradients, part: AuditedPart) -> Iterator[Candidate]:
    """Yield the gradients in a part where what comes through some of the places where the equation
    uses it is missing or has a factor, at the solution as returned.

    Some are one of at most `MAX_PLACES` places, or several of at most `MAX_TOGETHER`. The equation
    is called once, and differentiated once for each place.
    """
    uses, terms = terms_of_places(implicit, part)
    n_places = len(terms)
    n_together = n_places - 1 if n_places <= MAX_TOGETHER else 1
    gradient = implicit.at_codes[part.span]
    for n_wrong in range(1, n_together + 1):
        for wrong in itertools.combinations(range(n_places), n_wrong):
            term = sum(terms[index] for index in wrong)
            numbers = (n_places, *(index + 1 for index in wrong))
            operations = tuple(uses.places[index].operation for index in wrong)
            for kind, factor in OF_PLACES.items():
                mistake = Mistake(kind, numbers, part.name, uses.computed, operations)
                yield mistake, gradient + (factor - 1) * term


def terms_of_places(implicit: ImplicitGradients, part: AuditedPart) -> tuple[Uses, list[Array]]:
    """Return the places where the equation uses a part, and the terms of the gradient in it, one
    for each of them.

    There are no terms where it has one place alone, and where it has more than `MAX_PLACES`.
    """
    equation = implicit.equation
    problem, codes, layer = equation.problem, equation.codes, equation.double_layer
    _, weights = direct_gradients(problem, codes)
    adjoint, _ = problem.linearized(codes).solve(weights)
    with torch.enable_grad():
        theta = layer.theta.clone().requires_grad_()
        tensors = layer.tensors_at(theta)
        # An equation may change the tensor in place.
        start = tensors[part.index].grad_fn
        with layer.inputs_with(tensors) as inputs:
            after = equation.step_of_inputs(equation.state, inputs)
    uses = first_uses(after, start)
    if not 1 < len(uses.places) <= MAX_PLACES:
        return uses, []

    def pulled_back() -> Array:
        (gradient,) = gradients(after, (theta,), adjoint.ravel(), keep_graph=True)
        return gradient.numpy(force=True)[part.span]

    gradient, terms = pulled_back(), list[Array]()
    for place in uses.places:
        handle = place.node.register_hook(blocking(place.operand))
        terms.append(gradient - pulled_back())
        handle.remove()
    return uses, terms


def first_uses(output: Tensor, start: Any) -> Uses:
    """Return the first places in the graph of an output where one tensor is used several times: the
    one that the node `start` made, or the first one of those that follow from it.

    It is the only place left, or none, where nothing is used twice.
    """
    users = defaultdict[Any, list[Use]](list)
    for node in graph_nodes(output):
        for operand, (made_by, _) in enumerate(node.next_functions):
            users[made_by].append(Use(node, operand))
    node, computed = start, False
    while True:
        places = users[node]
        if len(places) != 1 or places[0].node is output.grad_fn:
            places.sort(key=lambda place: (place.node._sequence_nr(), place.operand))
            return Uses(places, computed)
        node, computed = places[0].node, True


def blocking(operand: int) -> Any:
    """Return a hook that lets no gradient through to an operand of an operation."""

    def hook(to_operands: tuple[Tensor | None, ...], _: object) -> tuple[Tensor | None, ...]:
        blocked = to_operands[operand]
        zero = None if blocked is None else torch.zeros_like(blocked)
        return (*to_operands[:operand], zero, *to_operands[operand + 1 :])

    return hook
