"""The abstract inner algorithm: an iteration that is unrolled layer by layer."""

import dataclasses
import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, ClassVar, Generic, ParamSpec, Self, TypeVar

import torch
from torch import Tensor

from ..errors import InvalidArgument
from ..names import make, spec_field
from ..problems import Problem
from ..short_repr import short_repr
from ..validation import check_integer, check_positive
from .requirements import DIFFERENTIABLE_LAYERS, Need, check_needs
from .thresholding import Soft, Thresholding

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, eq=False, repr=False)
class State:
    """Everything that a layer passes to the next.

    An algorithm with more memory passes a subclass, a dataclass with fields of its own. Every field
    that holds a tensor of floats is differentiated, and detached where a derivative is cut, unless
    it is declared with ``field(metadata={"constant": True})``. Fields that hold the same tensor
    count as one.

    Attributes
    ----------
    codes : Tensor
        The iterate: the output of the last proximal map.
    point : Tensor
        Where the next gradient step starts: the extrapolated point of an accelerated method, else
        the codes.
    momentum : float or Tensor
        Momentum sequence of an accelerated method, never part of a graph: one number, or one per
        sample (broadcasts over the codes) if each sample restarts on its own.
    iteration : int
        Number of layers run so far.
    """

    codes: Tensor
    point: Tensor
    momentum: float | Tensor = field(default=1.0, metadata={"constant": True})
    iteration: int = 0

    __repr__ = short_repr

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors that derivatives pass through, by the names of their fields.

        Fields declared ``constant``, and tensors that hold no floats, are left out.

        Raises
        ------
        InvalidArgument
            If a field holds a collection of tensors, whose derivatives would be lost.
        """
        tensors = {}
        for state_field in dataclasses.fields(self):
            value: object = getattr(self, state_field.name)
            if state_field.metadata.get("constant"):
                continue
            if isinstance(value, Tensor) and value.is_floating_point():
                tensors[state_field.name] = value
            items = [*value.values()] if isinstance(value, dict) else value
            if isinstance(items, tuple | list) and any(isinstance(item, Tensor) for item in items):
                raise InvalidArgument(
                    f"{type(self).__name__}.{state_field.name} is a {type(value).__name__} of"
                    " tensors: give each tensor a field of its own, or stack them into one"
                )
        return tensors

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Self:
        """Return a new state with a function applied to each of its `tensors`; fields that share
        one still do. `change` is called once for each tensor.
        """
        once = functools.cache(change)
        values: dict[str, Any] = {name: once(tensor) for name, tensor in self.tensors().items()}
        return dataclasses.replace(self, **values)

    def detach(self) -> Self:
        """Return the same state, detached from the graph."""
        return self.mapped(Tensor.detach)


@dataclass(frozen=True, eq=False, repr=False)
class Trajectory:
    """The result of running an algorithm.

    Attributes
    ----------
    codes : Tensor
        Codes after the last layer.
    depth : int
        Number of layers.
    states : mapping from int to State
        The states that were kept, including the last.
    """

    codes: Tensor
    depth: int
    states: Mapping[int, State] = field(repr=False)

    __repr__ = short_repr

    def at(self, iteration: int) -> Tensor:
        """Return the codes after `iteration` layers; InvalidArgument says that the run did not keep
        them.
        """
        if iteration not in self.states:
            raise InvalidArgument(
                f"iteration {iteration} was not kept: run again with keep=({iteration},)"
            )
        return self.states[iteration].codes


def unspecified(default: object = None) -> Any:
    """Return the field of a dataclass that no spec holds, such as data, and that does not count
    when objects are compared or shown; None by default.
    """
    return field(default=default, repr=False, compare=False, metadata={"spec": False})


@dataclass(frozen=True)
class Algorithm(ABC):
    """An iteration ``z_{t+1} = layer(z_t)`` with constant step.

    Parameters
    ----------
    step : float, optional
        Step size eta. None means 1/L, with L the Lipschitz constant of the gradient of the
        problem's smooth part.
    thresholding : Thresholding or str
        How the proximal map is carried out: a rule, or its spec such as ``"decaying(decay=0.99)"``.
    initial : Tensor, optional
        Warm start: the codes from which every run begins, unless `run` or `start` is given others;
        zero by default. As a field of the algorithm it reaches every estimator. It is constant
        under differentiation. It is data: a spec cannot hold it, and it does not count when
        algorithms are compared.
    """

    step: float | None = None
    thresholding: Thresholding = spec_field("thresholding", Soft())
    _: KW_ONLY
    initial: Tensor | None = unspecified()

    name: ClassVar[str]
    #: Whether derivatives pass through the layers: not if they solve the problem by decisions.
    differentiable: ClassVar[bool] = True
    #: Whether `advance` uses the step; otherwise a run computes none, and it is that of
    #: `plain_layer` alone.
    uses_step: ClassVar[bool] = True
    #: Whether `advance` that returns the very codes of the state, the same tensor, has come to an
    #: end, and would return them ever after: a run then leaves out the layers that remain.
    stays: ClassVar[bool] = False
    #: What it needs of a problem; a problem that lacks it is refused.
    needs: ClassVar[tuple[Need, ...]] = ()
    #: The algorithm to use where that is lacking.
    instead: ClassVar[str] = "ista"

    def __post_init__(self) -> None:
        if self.step is not None:
            check_positive("step", self.step)
        if isinstance(self.thresholding, str):
            object.__setattr__(self, "thresholding", make("thresholding", self.thresholding))
        if not isinstance(self.thresholding, Thresholding):
            raise InvalidArgument(
                f"thresholding={self.thresholding!r} is no thresholding rule: give a subclass of"
                " pudle.algorithms.thresholding.Thresholding or a spec such as 'soft' or"
                " 'decaying(decay=0.99)'"
            )

    @abstractmethod
    def advance(self, problem: Problem, state: State, step: float) -> State:
        """Run one layer."""

    def check_supported(self, problem: Problem) -> None:
        """Raise `UnsupportedProblem` where the problem lacks what the algorithm `needs`."""
        check_needs(self.name, self.needs, self.instead, problem, self)

    def step_size(self, problem: Problem) -> float:
        """Return the step used on this problem: the given one, or 1/L.

        The Lipschitz constant L is computed only where it is needed.

        Raises
        ------
        InvalidArgument
            If the given step exceeds 2/L, beyond which the iteration diverges.
        """
        if self.step is None:
            return 1 / problem.lipschitz_constant
        if problem.is_lipschitz(2 / self.step):
            return self.step
        largest = problem.lipschitz_constant
        # Rounding of the largest eigenvalue must not refuse a step of exactly 2/L.
        if self.step > 2 / largest * (1 + 1e-6):
            raise InvalidArgument(
                f"step={self.step} is above 2/L={2 / largest:.6g}, where the iteration diverges: "
                f"give a smaller step, or step=None for 1/L={1 / largest:.6g}"
            )
        return self.step

    def start(self, problem: Problem, initial: Tensor | None = None) -> State:
        """Return the state before the first layer: the given codes, else the algorithm's warm
        start, else zeros. Only the given codes are differentiated, if they require a gradient.

        Raises
        ------
        UnsupportedProblem
            If the problem lacks what the algorithm needs.
        InvalidArgument
            If the codes do not fit the problem.
        """
        self.check_supported(problem)
        if initial is None and self.initial is not None:
            initial = self.initial.detach()
        codes = problem.initial_codes() if initial is None else initial
        problem.check_codes("initial", codes)
        return State(codes, codes)

    def run(
        self,
        problem: Problem,
        depth: int,
        *,
        keep: Collection[int] = (),
        initial: Tensor | None = None,
    ) -> Trajectory:
        """Run `depth` layers, and keep the states of the iterations in `keep` besides the last.

        Layers are recorded for a derivative wherever torch records; under ``torch.no_grad()``
        compiled kernels may take their place, with the same result up to rounding. The layers after
        the first ones may be those of another algorithm, see `later_layers`. Neither the problem
        nor this algorithm is changed, but the problem may keep its Lipschitz constant.

        Parameters
        ----------
        problem : Problem
        depth : int
            Number of layers, >= 0.
        keep : collection of int
            Iterations between 0 and `depth`.
        initial : Tensor, optional
            Warm start, shape of the codes; by default the algorithm's own, or zeros. If it requires
            a gradient, the layers are differentiated in it.

        Returns
        -------
        Trajectory
            The codes after the last layer, and the states that were kept: a state of iteration t is
            that after t layers.

        Raises
        ------
        InvalidArgument
            If the depth, an iteration in `keep`, the step or the warm start is not usable.
        UnsupportedProblem
            If the problem lacks what the algorithm needs.
        """
        depth = check_integer("depth", depth, 0)
        missing = sorted(iteration for iteration in keep if not 0 <= iteration <= depth)
        if missing:
            raise InvalidArgument(
                f"keep={missing} lies outside 0..{depth}: raise depth or ask for fewer"
            )
        step = self.step_size(problem) if self.uses_step else 1.0
        n_own, later_algorithm = self.later_layers()
        n_own = min(n_own, depth)
        states = run_layers.plain(problem, self, self.start(problem, initial), n_own, keep, step)
        later_keep = [iteration - n_own for iteration in keep if iteration >= n_own]
        later_states = run_layers(
            problem, later_algorithm, states.pop(n_own), depth - n_own, later_keep, step
        )
        states |= {n_own + iteration: state for iteration, state in later_states.items()}
        return Trajectory(states[depth].codes, depth, states)

    def diagnose(self, problem: Problem, state: State) -> Mapping[str, float]:
        """Return numbers about a run that led to a state, by name; none unless overridden."""
        return {}

    def later_layers(self) -> tuple[int, "Algorithm"]:
        """Return the number of first layers that are this algorithm's own, and the algorithm whose
        layers follow them; none, and this one, unless overridden.
        """
        return 0, self

    def plain_layer(self, problem: Problem, codes: Tensor, step: float, iteration: int) -> Tensor:
        """Return Phi(codes), one layer without memory: the map whose fixed points this algorithm
        converges to.

        `iteration` counts the layers before it, which a decaying threshold depends on. Implicit
        differentiation by fixed-point iterations is that of this map.
        """
        return self.proximal_step(problem, codes, step, iteration)

    def proximal_step(self, problem: Problem, point: Tensor, step: float, iteration: int) -> Tensor:
        """Return ``prox(point - step * grad f(point))``, the layer of this iteration without
        acceleration.
        """
        values = point - step * problem.smooth_gradient(point)
        return problem.prox(values, step, self.thresholding, iteration)


class Dispatched(Generic[P, R]):
    """A function whose first argument is a problem, and faster ways for some types of problems.

    The function knows none of them: a module that has one adds it to `faster`. A faster way that
    returns None declines, and the function itself is called. Subclasses of a type take the
    function itself, because what they override is not known.
    """

    def __init__(self, plain: Callable[P, R]) -> None:
        self.plain = plain
        #: Faster ways, by the type of the problem.
        self.faster: dict[type, Callable[..., R | None]] = {}
        functools.update_wrapper(self, plain)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if faster := self.faster.get(type(args[0])):
            result = faster(*args, **kwargs)
            if result is not None:
                return result
        return self.plain(*args, **kwargs)


@Dispatched
def run_layers(
    problem: Problem,
    algorithm: Algorithm,
    state: State,
    depth: int,
    keep: Collection[int],
    step: float,
) -> dict[int, State]:
    """Run `depth` layers from a state; return the states after the layers in `keep`, counted from
    there, and the last.

    The problem may have a faster way, see `Dispatched`; ``run_layers.plain`` runs the layers one by
    one. Torch records them where it records.

    Raises
    ------
    UnsupportedProblem
        If the result is to be differentiated and the algorithm is not `differentiable`.
    """
    refuse_recorded(algorithm, problem, state)
    states = {}
    for layer in range(depth):
        if layer in keep:
            states[layer] = state
        before, state = state, algorithm.advance(problem, state, step)
        if algorithm.stays and state.codes is before.codes:
            first = state.iteration - layer - 1
            later = sorted(number for number in {*keep, depth} if number > layer)
            return states | {
                number: dataclasses.replace(state, iteration=first + number) for number in later
            }
    states[depth] = state
    return states


def is_recorded(problem: Problem, state: State) -> bool:
    """Tell whether torch records or transforms what is computed from a problem and a state: whether
    the codes, or a tensor in the problem's fields, require a gradient where gradients are recorded,
    or are wrapped.
    """
    recording = torch.is_grad_enabled()
    values: tuple[object, ...] = (state.codes, *vars(problem).values())
    return any(
        isinstance(value, Tensor) and ((recording and value.requires_grad) or is_wrapped(value))
        for value in values
    )


def refuse_recorded(algorithm: Algorithm, problem: Problem, state: State) -> None:
    """Raise `UnsupportedProblem` where torch would record the layers of an algorithm that is not
    `differentiable`.
    """
    if not algorithm.differentiable and is_recorded(problem, state):
        check_needs("a derivative", [DIFFERENTIABLE_LAYERS], "", problem, algorithm)


def is_wrapped(tensor: Tensor) -> bool:
    """Tell whether a transformation such as vmap or forward-mode differentiation is at work on a
    tensor.
    """
    # A function of torch's without types.
    unpack_dual: Callable[[Tensor], Any] = torch.autograd.forward_ad.unpack_dual
    return (
        torch._C._functorch.is_functorch_wrapped_tensor(tensor)
        or unpack_dual(tensor).tangent is not None
    )
