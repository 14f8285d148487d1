"""Common mistakes, the gradients that they lead to, with and without an equation, and which of them
explain a gradient.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from enum import Enum, auto
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..algorithms.unrolling import differentiable, direct_gradients, gradients
from ..errors import UnsupportedProblem
from ..problems.linearized import MAX_DENSE
from . import distances
from .differences import BEYOND
from .distances import EXACT, ROUNDED, distance, distance_in_any_unit, nearest_multiple, norm
from .equation import Equation
from .layer import Array, AuditedPart, real_tensors

#: Terms of a truncated series that are tried.
MAX_TERMS = 60
#: Powers of ten between which a damping is looked for, as a share of the system's norm.
DAMPING_EXPONENTS = (-7.0, 1.0)
#: Share of an error of the gradient that a mistake at places, of which many are tried, may leave.
BY_CHANCE = 1e-3
#: Factors of the Jacobian that are tried.
JACOBIAN_FACTORS = (-1.5, 1.5)


class MistakeKind(Enum):
    """What kind of mistake; `auditing.sentences` says each in words."""

    # Of any gradient.
    NEGATED = auto()
    HALF_TOO_MANY = auto()
    HALF_MISSING = auto()
    MULTIPLE = auto()
    DETACHED = auto()
    SUM_NOT_MEAN = auto()
    MEAN_NOT_SUM = auto()
    PART_OF_BATCH = auto()
    HALF_OF_SYMMETRIC = auto()
    TRANSPOSED = auto()
    WRONG_ENTRY = auto()
    SINGLE_PRECISION = auto()
    # Of the gradient that comes in.
    CLIPPED = auto()
    THRESHOLDED = auto()
    NOT_MULTIPLIED = auto()
    NOT_LINEAR = auto()
    # Of the Jacobian.
    JACOBIAN_NOT_TRANSPOSED = auto()
    OUTPUTS_IGNORED = auto()
    WRONG_PLACES = auto()
    NOT_ZERO = auto()
    OTHER_ENTRIES_MISSING = auto()
    TERM_MISSING = auto()
    ANOTHER_VALUE = auto()
    OWN_FACTOR_OF_OUTPUT = auto()
    OWN_FACTOR_OF_INPUT = auto()
    OWN_FACTOR_OF_EQUATION = auto()
    AVERAGED_OVER_BATCH = auto()
    EXCHANGED = auto()
    # With an equation.
    ONE_STEP = auto()
    SOLVE_NOT_TRANSPOSED = auto()
    DIRECT_PART_MISSING = auto()
    SOLUTION_PATH_MISSING = auto()
    JACOBIAN_AT_ZERO = auto()
    INVERSE_TWICE = auto()
    EARLIER_SOLUTION = auto()
    SERIES = auto()
    MINIMUM_NORM = auto()
    DAMPED = auto()
    FACTOR_OF_JACOBIAN = auto()
    # Of places where an equation uses an input.
    PLACES_MISSING = auto()
    PLACES_HALVED = auto()
    PLACES_NEGATED = auto()
    PLACES_DOUBLED = auto()
    # Of several calls.
    STALE = auto()
    NOT_DETERMINISTIC = auto()
    ACCUMULATED = auto()
    NO_SECOND_DERIVATIVE = auto()


#: Mistakes with a number that is fitted: it explains fewer entries than three, whatever they are.
FITTED = {
    MistakeKind.SERIES,
    MistakeKind.MULTIPLE,
    MistakeKind.DAMPED,
    MistakeKind.FACTOR_OF_JACOBIAN,
}
#: Mistakes in terms of a gradient that come through single places, and the factor of such a term.
OF_PLACES = {
    MistakeKind.PLACES_MISSING: 0.0,
    MistakeKind.PLACES_HALVED: 0.5,
    MistakeKind.PLACES_NEGATED: -1.0,
    MistakeKind.PLACES_DOUBLED: 2.0,
}
#: Mistakes that may be a solver's that stops early.
PERHAPS_A_SOLVER = FITTED | {
    MistakeKind.PART_OF_BATCH,
    MistakeKind.ANOTHER_VALUE,
    MistakeKind.OWN_FACTOR_OF_OUTPUT,
    MistakeKind.OWN_FACTOR_OF_INPUT,
    MistakeKind.OWN_FACTOR_OF_EQUATION,
    MistakeKind.NOT_LINEAR,
    MistakeKind.NOT_ZERO,
    MistakeKind.OTHER_ENTRIES_MISSING,
    MistakeKind.TERM_MISSING,
    MistakeKind.WRONG_ENTRY,
}


class Mistake(NamedTuple):
    """A mistake.

    Attributes
    ----------
    kind : MistakeKind
    numbers : tuple of float
        Those that belong to its kind; of places how many there are, then which of them are wrong,
        from 1.
    name : str
        The part that is exchanged, or whose places are meant.
    computed : bool
        Whether the places are those of what the equation computes from that part.
    operations : tuple of str
        What torch calls the operations at the wrong places.
    """

    kind: MistakeKind
    numbers: tuple[float, ...] = ()
    name: str = ""
    computed: bool = False
    operations: tuple[str, ...] = ()


#: A mistake, and the gradient that it leads to.
Candidate = tuple[Mistake, Array]
#: What a caller calls a mistake.
Label = TypeVar("Label")


# --- which mistake explains a gradient


class LikelyMistakes(NamedTuple):
    """The likeliest mistakes, at most two, and whether one is among them that no solver makes."""

    certain: bool
    mistakes: tuple[Mistake, ...]


def likeliest(
    gradient: Array, expected: Array, candidates: Iterable[Candidate], slack: float
) -> LikelyMistakes:
    """Return at most two of the mistakes that explain a gradient about as well as the best one
    does, none if nothing explains it, and whether one is among them that no solver makes by
    stopping early: then only such ones.

    A mistake at places is none that a solver makes if it explains three entries or more, so closely
    that it is no chance, and no truncated series explains them.
    """
    errors = {
        mistake: error for error, mistake in explaining(gradient, expected, candidates, slack)
    }
    limit = 3 * min(errors.values(), default=0.0) + EXACT
    close = min(ROUNDED, BY_CHANCE * distance(gradient, expected))
    few = gradient.size <= 2
    perhaps_series = any(mistake.kind is MistakeKind.SERIES for mistake in errors)
    mistakes, certain = list[Mistake](), list[Mistake]()
    for mistake, error in errors.items():
        if mistake.kind in OF_PLACES:
            usable = not few or error <= close
            no_solver = not few and error <= close and not perhaps_series
        else:
            usable = not few or mistake.kind not in FITTED
            no_solver = mistake.kind not in PERHAPS_A_SOLVER
        if usable and error <= limit:
            mistakes.append(mistake)
            certain += [mistake] if no_solver else []
    return LikelyMistakes(bool(certain), tuple(certain or mistakes)[:2])


def explaining(
    array: distances.Array,
    expected: distances.Array,
    candidates: Iterable[tuple[Label, distances.Array]] = (),
    slack: float = 0.0,
) -> Iterator[tuple[float, Label | Mistake]]:
    """Yield the mistakes that explain an array, with the error that each leaves: next to nothing,
    or no more than what is known of the expected one to begin with, its `slack`.

    First come a wrong sign and factors of two, then the candidates, in their order; another
    multiple only if nothing else explains it.
    """
    error, factor = distance(array, expected), nearest_multiple(array, expected)
    multiples: list[tuple[Label | Mistake, distances.Array]] = [
        (Mistake(MistakeKind.NEGATED), -expected),
        (Mistake(MistakeKind.HALF_TOO_MANY), expected / 2),
        (Mistake(MistakeKind.HALF_MISSING), 2 * expected),
    ]
    limit = max(min(ROUNDED, 0.01 * error), min(slack, 0.1 * error))
    explained = False
    for mistake, candidate in itertools.chain(multiples, candidates):
        remaining = distance_in_any_unit(array, candidate)
        if remaining < limit:
            explained = True
            yield remaining, mistake
    # Every number is a multiple of another, and zero of all.
    if not explained and expected.size > 1 and array.any():
        remaining = distance_in_any_unit(array, factor * expected)
        if remaining < limit:
            yield remaining, Mistake(MistakeKind.MULTIPLE, (factor,))


# --- gradients that mistakes lead to


def mistakes_without_equation(
    part: AuditedPart,
    outputs: Sequence[Array],
    gradient: Array,
    expected: Array,
    uncertainty: float = 0.0,
) -> Iterator[Candidate]:
    """Yield mistakes that need no equation, with the gradient that each leads to in a part, in all
    entries or along some directions.

    Those of a batch and of a matrix are among them only for all entries. The expected gradient may
    be off by its `uncertainty`, relative to its norm.
    """
    shape = part.tensor.shape
    if not gradient.any():
        yield Mistake(MistakeKind.DETACHED), gradient
    counts = set(shape[:1])
    for output in outputs:
        counts |= {output.size, *output.shape[:1]}
    for count in sorted(counts - {1}):
        yield Mistake(MistakeKind.SUM_NOT_MEAN, (count,)), count * expected
        yield Mistake(MistakeKind.MEAN_NOT_SUM, (count,)), expected / count
    if gradient.size != part.tensor.numel():
        return
    if len(shape) > 1 and shape[0] > 1:
        yield from part_of_batch(gradient.reshape(shape), expected.reshape(shape), uncertainty)
    if len(shape) == 2 and shape[0] == shape[1]:
        matrix = expected.reshape(shape)
        if part.symmetric:
            yield (
                Mistake(MistakeKind.HALF_OF_SYMMETRIC),
                (matrix + np.diag(np.diag(matrix))).ravel() / 2,
            )
        yield Mistake(MistakeKind.TRANSPOSED), matrix.T.ravel()


def part_of_batch(gradient: Array, expected: Array, uncertainty: float) -> Iterator[Candidate]:
    """Yield the gradient itself if some rows of it are right, and not all; with how many are.

    A right row is as near to the expected one, in its own norm, as a right gradient is; no row of
    that many is so near by chance.
    """
    unsure = min(BEYOND * uncertainty, BY_CHANCE / len(expected))
    limit = min(max(ROUNDED, unsure), 0.01 * distance(gradient, expected))
    n_right = sum(
        distance(row, expected_row) <= limit and bool(expected_row.any())
        for row, expected_row in zip(gradient, expected, strict=True)
    )
    if 0 < n_right < len(expected):
        yield Mistake(MistakeKind.PART_OF_BATCH, (n_right, len(expected))), gradient.ravel()


def rank_by_size(expected: Array, shape: Sequence[int], outputs: Sequence[Array]) -> int:
    """Return a rank that the gap of a Jacobian has by its size alone, such as one of a wrong sign.

    It is that of the expected Jacobian. In a matrix that is no batch, whose rows no output has, a
    gradient is often a sum of outer products with a vector that is always the same: the gap of
    each has the rank of one side.
    """
    rank = int(np.linalg.matrix_rank(expected, ROUNDED * norm(expected)))
    is_batch = any(output.ndim > 1 and output.shape[0] == shape[0] for output in outputs)
    return rank if len(shape) < 2 or is_batch else min(rank, *shape)


def mistakes_of_jacobian(jacobian: Array, expected: Array, usual_rank: int) -> Iterator[Candidate]:
    """Yield mistakes with the Jacobian in a part that each leads to, also those that its zeros
    show: these with the Jacobian itself.

    A gap whose rank is at most a third of the `usual_rank` is one of a term.
    """
    yield Mistake(MistakeKind.JACOBIAN_NOT_TRANSPOSED), expected.T
    present, needed = counting_entries(jacobian), counting_entries(expected)
    rows_present, rows_needed = present.sum(1) > 0, needed.sum(1) > 0
    single_entries = (present.sum(1) == 1).all()
    if n_ignored := int((rows_needed & ~rows_present).sum()):
        mistake = Mistake(MistakeKind.OUTPUTS_IGNORED, (n_ignored, len(jacobian)))
        yield mistake, expected * rows_present[:, None]
    if single_entries:
        yield Mistake(MistakeKind.WRONG_PLACES), present * expected.sum(1, keepdims=True)
    rank = np.linalg.matrix_rank(jacobian - expected, ROUNDED * norm(expected))
    if (rows_present & ~rows_needed).any():
        yield Mistake(MistakeKind.NOT_ZERO), jacobian
    elif single_entries and needed.sum(1).max() > 1:
        yield Mistake(MistakeKind.OTHER_ENTRIES_MISSING), jacobian
    elif 0 < 3 * rank <= usual_rank:
        yield Mistake(MistakeKind.TERM_MISSING), jacobian
    yield from values_exchanged(jacobian, expected, needed)
    yield from own_factors(MistakeKind.OWN_FACTOR_OF_OUTPUT, jacobian, expected)
    for mistake, transposed in own_factors(MistakeKind.OWN_FACTOR_OF_INPUT, jacobian.T, expected.T):
        yield mistake, transposed.T


def values_exchanged(
    jacobian: Array, expected: Array, needed: NDArray[np.bool_]
) -> Iterator[Candidate]:
    """Yield the mistake that another value stands in the place of a value of the expected Jacobian,
    with the Jacobian that it leads to: wherever the expected one has a value, this has the mean of
    `jacobian` over these entries.

    Only the `needed` entries count, where the expected Jacobian is not zero; the others are zero.
    Yields nothing if the expected Jacobian has more different values, up to rounding, than half the
    number of needed entries.
    """
    values, places = np.unique(
        np.round(expected[needed] / np.abs(expected).max(), 9), return_inverse=True
    )
    if 2 * len(values) <= len(places):
        means = np.bincount(places, jacobian[needed]) / np.bincount(places)
        exchanged = 0 * expected
        exchanged[needed] = means[places]
        yield Mistake(MistakeKind.ANOTHER_VALUE), exchanged


def counting_entries(matrix: Array) -> NDArray[np.bool_]:
    """Return which entries of a matrix are not zero."""
    sizes = np.abs(matrix)
    return sizes > ROUNDED * float(sizes.max())


def own_factors(kind: MistakeKind, matrix: Array, expected: Array) -> Iterator[Candidate]:
    """Yield a matrix whose rows have factors of their own, those that bring it nearest, with the
    least and the greatest; nothing if the rows are too short to tell, or the factors equal.
    """
    squares: Array = (expected**2).sum(1)
    factors: Array = (matrix * expected).sum(1) / np.maximum(squares, np.finfo(float).tiny)
    usable = factors[squares > 0]
    long_enough = 0 < 3 * len(usable) <= counting_entries(expected).sum()
    if long_enough and np.ptp(usable) > 0.01 * np.abs(usable).max():
        mistake = Mistake(kind, (float(usable.min()), float(usable.max())))
        yield mistake, factors[:, None] * expected


def mistakes_with_equation(
    equation: Equation, gradient: Array, elsewhere: Tensor
) -> Iterator[Candidate]:
    """Yield the gradients in all parts that mistakes with an equation lead to, at the solution as
    returned; the layer may have kept what it returned `elsewhere`.

    Each is computed when it is asked for. The `gradient` serves to fit a damping and a factor.
    """
    problem, codes = equation.problem, equation.codes
    direct, weights = direct_gradients(problem, codes)
    system = problem.linearized(codes)
    with torch.enable_grad():
        live, theta = differentiable(problem)
        after = replace(equation.running, problem=live).layer(codes, 0)

    def pulled_back(adjoint: Tensor) -> Array:
        (through,) = gradients(after, (theta,), adjoint.reshape(codes.shape), keep_graph=True)
        return (direct + through).numpy(force=True)

    yield Mistake(MistakeKind.ONE_STEP), pulled_back(weights)
    adjoint, _ = system.solve(weights)
    with contextlib.suppress(UnsupportedProblem):
        transposed, _ = system.solve(weights, transposed=False)
        yield Mistake(MistakeKind.SOLVE_NOT_TRANSPOSED), pulled_back(transposed)
    if direct.any():
        without_direct = pulled_back(adjoint) - direct.numpy(force=True)
        yield Mistake(MistakeKind.DIRECT_PART_MISSING), without_direct
        yield Mistake(MistakeKind.SOLUTION_PATH_MISSING), direct.numpy(force=True)
    # The equation need not be defined there.
    with contextlib.suppress(UnsupportedProblem, RuntimeError):
        at_zero, _ = problem.linearized(0 * codes).solve(weights)
        yield Mistake(MistakeKind.JACOBIAN_AT_ZERO), pulled_back(at_zero)
    yield Mistake(MistakeKind.INVERSE_TWICE), pulled_back(system.solve(adjoint)[0])
    yield from at_earlier_solution(equation, direct, weights, elsewhere)
    if system.like.numel() <= MAX_DENSE:
        yield from mistakes_of_spectrum(system.matrix.T, weights, pulled_back, gradient)
    term = total = weights
    for n_terms in range(2, MAX_TERMS + 1):
        term = term - system.transposed(term)
        total = total + term
        yield Mistake(MistakeKind.SERIES, (n_terms,)), pulled_back(total)


def at_earlier_solution(
    equation: Equation, direct: Tensor, weights: Tensor, elsewhere: Tensor
) -> Iterator[Candidate]:
    """Call the layer `elsewhere`, and yield the gradients at the solution that it returns there,
    with its inputs of this call and of that one.
    """
    # The loss is taken at the solution of this call.
    linear = replace(
        equation.problem, loss=lambda z, theta: (weights * z).sum() + (direct * theta).sum()
    )
    running = replace(equation.running, problem=linear)
    outputs = real_tensors(equation.layer.outputs(elsewhere))
    earlier = torch.cat([output.to(equation.codes).reshape(1, -1) for output in outputs], 1)
    for inputs in (running, running.at(elsewhere)):
        stale, _ = inputs.gradient(earlier, 0)
        yield Mistake(MistakeKind.EARLIER_SOLUTION), stale.numpy(force=True)


def mistakes_of_spectrum(
    matrix: Tensor, weights: Tensor, pulled_back: Callable[[Tensor], Array], gradient: Array
) -> Iterator[Candidate]:
    """Yield the gradients that another matrix leads to: without its small singular values, damped,
    or with another factor of the Jacobian, with numbers that bring it nearest to the layer's
    gradient.
    """
    from scipy.optimize import minimize_scalar  # slow to import

    right_hand_side, eye = weights.reshape(-1, 1), torch.eye(len(matrix)).to(weights)

    def solved(matrix: Tensor) -> Array:
        return pulled_back(torch.linalg.lstsq(matrix, right_hand_side).solution)

    left_vectors, values, right_vectors = torch.linalg.svd(matrix)
    for rank in range(1, len(values)):
        if values[rank] > (1 - ROUNDED) * values[rank - 1]:
            continue
        along = (left_vectors.T @ weights.ravel())[:rank] / values[:rank]
        mistake = Mistake(MistakeKind.MINIMUM_NORM, (len(values) - rank,))
        yield mistake, pulled_back(right_vectors[:rank].T @ along)
    size = float(values[0])

    def damped(exponent: float) -> Tensor:
        return matrix + size * 10**exponent * eye

    def with_factor(factor: float) -> Tensor:
        return eye - factor * (eye - matrix)

    def nearest(system: Callable[[float], Tensor], bounds: tuple[float, float]) -> float:
        """Return the number, within bounds, whose system leads nearest to the layer's gradient."""
        optimum = minimize_scalar(
            lambda number: distance(solved(system(number)), gradient),
            bounds=bounds,
            method="bounded",
            options={"xatol": 1e-10, "maxiter": 80},
        )
        return float(optimum.x)

    exponent = nearest(damped, DAMPING_EXPONENTS)
    factor = nearest(with_factor, JACOBIAN_FACTORS)
    yield Mistake(MistakeKind.DAMPED, (size * 10**exponent,)), solved(damped(exponent))
    yield Mistake(MistakeKind.FACTOR_OF_JACOBIAN, (factor,)), solved(with_factor(factor))
