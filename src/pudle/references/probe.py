"""Numbers that tell a problem from others: a reference keeps them, so that no gradient of another
problem is scored against it.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..algorithms import Algorithm
from ..algorithms.unrolling import full_gradients
from ..names import make_algorithm
from ..problems import Problem
from ..streams import generator
from .records import exactly

Probe = Sequence[float]

#: Layers after a random state, and after the problem's own first one.
LAYERS = 3
#: Numbers of one problem differ by no more than rounding on other machines.
CLOSE = 1e-6
CALLED_AGAIN = (
    "the problem gives another layer, loss or gradient whenever it is asked: leave random draws,"
    " clocks and counters out of its step and its loss"
)
DRAWN_AGAIN = (
    "the dataset gives another problem when it draws again with the same seed: draw from a"
    " generator that is made with it, such as torch.Generator().manual_seed(seed), leave out hash()"
    " and the order of sets, and name the files that it reads in its options"
)


def probe(problem: Problem, algorithm: Algorithm | None = None) -> Probe:
    """Return the numbers of a problem: of its parameter, and of the states, losses and gradients
    that three layers lead to.

    The layers are those of the algorithm or, by default and where it cannot be differentiated, of
    the problem's default one; they start at the problem's first state and at that moved by noise,
    which is the same in every run. A start at which layer or loss raises an error adds no numbers.
    Computed in float64 on the CPU.
    """
    if algorithm is None or not algorithm.differentiable:
        algorithm = make_algorithm(problem.default_algorithm)
    problem = exactly(problem)
    first = problem.initial_codes()
    noise = first.new_tensor(generator(0, "probe").standard_normal(first.shape))
    numbers = [_number(problem.theta)]
    for initial in (first, first + noise):
        try:
            state = algorithm.start(problem, initial)
            gradient, codes = next(full_gradients(problem, algorithm, [LAYERS], state))
            numbers += map(_number, (codes, problem.outer_loss(codes), gradient))
        except Exception:  # noqa: BLE001  # not every step and loss is for every state
            continue
    return tuple(numbers)


def _number(tensor: Tensor) -> float:
    """Return a number that no two tensors share by chance, of the size of the tensor: its norm, and
    half of its projection on a fixed vector.
    """
    flat = tensor.detach().flatten()
    weights = (torch.arange(len(flat)).to(flat) + 1).cos()
    return float(flat @ weights / weights.norm() / 2 + flat.norm())


def why_another(known: Probe, problem: Problem, algorithm: Algorithm | None = None) -> str:
    """Return why a problem is not the one of a probe, an empty text where it is: the dataset draws
    another with the same seed, or the problem's functions give other numbers at each call.
    """
    current = probe(problem, algorithm)
    if is_same(known, current):
        return ""
    return DRAWN_AGAIN if is_same(current, probe(problem, algorithm)) else CALLED_AGAIN


def is_same(first: Probe, second: Probe) -> bool:
    """Tell whether two probes are of the same problem: as many numbers, the same up to a millionth
    of each; NaN is equal to NaN.
    """
    if len(first) != len(second):
        return False
    size = max(np.abs(np.nan_to_num(first, posinf=0, neginf=0)))
    return np.allclose(first, second, CLOSE, np.finfo(float).eps * size, equal_nan=True)
