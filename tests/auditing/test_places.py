"""A mistake in one term of a gradient is named by the place where the equation uses the input."""

import runpy
from collections.abc import Callable

import pytest
import torch
from support.paths import ROOT

import pudle
from pudle.auditing import mistakes
from pudle.auditing.distances import distance
from pudle.auditing.equation import ImplicitGradients
from pudle.auditing.evidence import observe
from pudle.auditing.layer import Layer
from pudle.auditing.mistakes import LikelyMistakes, Mistake, MistakeKind, likeliest
from pudle.auditing.places import MAX_PLACES, mistakes_at_places, terms_of_places

PUBLISHED = runpy.run_path(str(ROOT / "examples" / "audit" / "published.py"))
drawn, function = PUBLISHED["drawn"], PUBLISHED["layer"]

N = 5
TALL, TARGET, X = drawn(8, 4, seed=1), drawn(8, seed=2), drawn(N, seed=3)
J, EYE = 0.3 * drawn(N, N, seed=4), torch.eye(N).double()
#: What a mistake is called, by the factor of the term.
SAID = {0: "is missing", 0.5: "is halved", -1: "has the wrong sign", 2: "is doubled"}


def through(places: str, used: str, factor: float) -> str:
    """Return what a mistake at places, such as ``mm, the 1st of the 2``, is called."""
    places = f"through {places} places where the equation uses {used},"
    return f"the derivative {places} {SAID[factor]}"


# --- ridge regression, which uses its matrix twice


def ridge_residual(z, matrix, target):
    return matrix.T @ (matrix @ z - target) + z


def normal_equations(z, matrix, target):
    """The same, with the matrix in three places."""
    return (matrix.T @ matrix) @ z + z - matrix.T @ target


def ridge(of_residual: float, of_solution: float, of_fit: float | None = None):
    """Return ridge regression, with a factor of each term of its gradient in the matrix; the first
    one's two parts have factors of their own if there is a third.
    """

    def solve(matrix, target):
        hessian = matrix.T @ matrix + torch.eye(matrix.shape[1]).to(matrix)
        return torch.linalg.solve(hessian, matrix.T @ target)

    def backward(d, z, matrix, target):
        hessian = matrix.T @ matrix + torch.eye(matrix.shape[1]).to(matrix)
        u = torch.linalg.solve(hessian, d)
        target_factor = of_residual if of_fit is None else of_fit
        first = torch.outer(of_residual * matrix @ z - target_factor * target, u)
        return -first - of_solution * torch.outer(matrix @ u, z), matrix @ u

    return function(solve, backward)


@pytest.mark.parametrize("factor", SAID)
@pytest.mark.parametrize("place", ["permute, the 1st", "mv, the 2nd"])
def test_a_term_of_two_is_named(place: str, factor: float) -> None:
    layer = ridge(factor, 1) if "1st" in place else ridge(1, factor)
    report = pudle.audit(layer, TALL, TARGET, residual=ridge_residual)
    assert report.verdict == "wrong", report
    assert report.mistake == through(f"{place} of the 2", "input 0", factor)
    assert [part.name for part in report.parts if part.verdict == "wrong"] == ["input 0"]


def test_terms_of_three_are_named_one_by_one_and_together() -> None:
    for layer, places, factor in (
        (ridge(0, 1, 1), "permute, the 1st", 0),
        (ridge(1, 0.5), "mm, the 2nd", 0.5),
        (ridge(1, 1, -1), "permute, the 3rd", -1),
        (ridge(0.5, 1), "permute, the 1st and 3rd", 0.5),
    ):
        report = pudle.audit(layer, TALL, TARGET, residual=normal_equations)
        assert report.verdict == "wrong", report
        assert report.mistake == through(f"{places} of the 3", "input 0", factor)


def test_a_layer_that_is_right_stays_right() -> None:
    for residual in (ridge_residual, normal_equations):
        assert pudle.audit(ridge(1, 1), TALL, TARGET, residual=residual).verdict == "right"


# --- a fixed point with a skip connection


class Skip(torch.nn.Module):
    """y = z + s with z = tanh(J z + s) and s = V x; a factor of what comes through the skip."""

    def __init__(self, factor: float = 1.0, steps: int = 200) -> None:
        super().__init__()
        self.V = torch.nn.Parameter(drawn(N, N, seed=5))
        self.factor, self.steps = factor, steps

    def forward(self, x):
        s = self.V @ x
        return self.solved(s) + self.factor * s + (1 - self.factor) * s.detach()

    def solved(self, s):
        def solve(s):
            z = torch.zeros_like(s)
            for _ in range(self.steps):
                z = torch.tanh(J @ z + s)
            return z

        def backward(d, z, s):
            slope = 1 - z**2
            return slope * torch.linalg.solve(EYE - J.T * slope, d)

        return function(solve, backward)(s)

    def residual(self, y, x):
        s = self.V @ x
        z = y - s
        return z - torch.tanh(J @ z + s)


@pytest.mark.parametrize("factor", SAID)
def test_a_term_of_what_is_computed_from_an_input_is_named(factor: float) -> None:
    layer = Skip(factor)
    for wrt, name in ((0, "input 0 (x)"), ("V", "parameter V")):
        report = pudle.audit(layer, X, wrt=wrt, residual=layer.residual)
        assert report.verdict == "wrong", report
        used = f"what it computes from {name}"
        assert report.mistake == through("sub, the 1st of the 2", used, factor)


@pytest.mark.parametrize("steps", [4, 6, 10, 200])
def test_a_solver_that_stops_early_is_no_missing_term(steps: int) -> None:
    layer = Skip(steps=steps)
    for seed in range(3):
        report = pudle.audit(layer, X, residual=layer.residual, seed=seed)
        assert report.verdict == ("right" if steps == 200 else "inexact"), report
        assert not report.mistake or report.verdict == "right", report
    unrolled = Skip(steps=steps)
    unrolled.solved = lambda s: iterated(s, steps)
    assert pudle.audit(unrolled, X, residual=unrolled.residual).verdict != "wrong"


def iterated(s, steps):
    z = torch.zeros_like(s)
    for _ in range(steps):
        z = torch.tanh(J @ z + s)
    return z


def gated_step(z, x):
    return torch.tanh(J @ z + x) * torch.sigmoid(x)


@pytest.mark.parametrize("factor", SAID)
def test_a_term_of_a_step_is_named(factor: float) -> None:
    def solve(x):
        z = torch.zeros_like(x)
        for _ in range(200):
            z = gated_step(z, x)
        return z

    def backward(d, z, x):
        gate, inner = torch.sigmoid(x), torch.tanh(J @ z + x)
        slope = gate * (1 - inner**2)
        adjoint = torch.linalg.solve(EYE - J.T * slope, d)
        return adjoint * (slope + factor * inner * gate * (1 - gate))

    report = pudle.audit(function(solve, backward), X, step=gated_step)
    assert report.verdict == "wrong", report
    assert report.mistake == through("sigmoid, the 2nd of the 2", "input 0", factor)


# --- places


def implicit_gradients(layer: Callable, step: Callable, *inputs: object) -> ImplicitGradients:
    subject = Layer(layer, inputs, (0,), None, 0)
    implicit = observe(subject, ("step", step), None).implicit
    assert isinstance(implicit, ImplicitGradients)
    return implicit


def solution_of(step: Callable) -> Callable:
    """Return the layer of a step that does not depend on its state."""
    return lambda x: step(torch.zeros_like(x), x)


def using(count: int) -> Callable:
    """Return a step that uses its input so often, each time in another way."""
    return lambda z, x: 0 * z + sum(torch.sin((index + 1) * x) for index in range(count))


def test_the_terms_are_those_of_the_closed_form() -> None:
    step = using(3)
    implicit = implicit_gradients(solution_of(step), step, X)
    (part,) = implicit.equation.layer.parts
    uses, terms = terms_of_places(implicit, part)
    (weights,) = implicit.equation.layer.output_weights
    assert not uses.computed and len(terms) == 3
    for index, term in enumerate(terms, 1):
        closed = part.unit * weights * index * torch.cos(index * X)
        assert distance(term, closed.numpy()) < 1e-14


def test_what_takes_no_part_in_the_derivative_is_no_place() -> None:
    def step(z, x):
        constant = torch.ones_like(x) + (x.detach() > 0)
        return 0 * z + x.exp() + constant * x / len(x)

    implicit = implicit_gradients(solution_of(step), step, X)
    _, terms = terms_of_places(implicit, implicit.equation.layer.parts[0])
    assert len(terms) == 2


def test_a_function_with_its_own_backward_pass_is_a_place() -> None:
    twice = function(lambda x, y: x * y, lambda d, z, x, y: (d * y, d * x))
    step = lambda z, x: 0 * z + twice(x, x) + x.exp()  # noqa: E731
    implicit = implicit_gradients(solution_of(step), step, X)
    uses, terms = terms_of_places(implicit, implicit.equation.layer.parts[0])
    assert [place.operation for place in uses.places] == ["layer", "layer", "exp"]
    assert len(terms) == 3 and distance(terms[0], terms[1]) < 1e-14 < distance(*terms[1:])


def test_an_input_that_is_changed_in_place_has_places_of_its_changed_value() -> None:
    def step(z, x):
        x.mul_(2)
        return 0 * z + x.exp() + x.sin()

    implicit = implicit_gradients(solution_of(lambda z, x: step(z, x.clone())), step, X)
    uses, terms = terms_of_places(implicit, implicit.equation.layer.parts[0])
    assert uses.computed and len(terms) == 2


@pytest.mark.parametrize("count", [1, 2, 4, 5, MAX_PLACES, MAX_PLACES + 1])
def test_few_places_are_tried_together_and_many_not_at_all(count: int) -> None:
    step = using(count)
    implicit = implicit_gradients(solution_of(step), step, X)
    candidates = [*mistakes_at_places(implicit, implicit.equation.layer.parts[0])]
    n_sets = {1: 0, 2: 2, 4: 14, 5: 5, MAX_PLACES: MAX_PLACES, MAX_PLACES + 1: 0}[count]
    assert len(candidates) == len(SAID) * n_sets


# --- what is certain


EXPECTED = drawn(3, seed=7).numpy()
MISSING = Mistake(MistakeKind.PLACES_MISSING, (2, 1), "input 0")
SERIES = Mistake(MistakeKind.SERIES, (2,))


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("remaining, fits", [(0.0, True), (1e-4, False)])
def test_a_close_fit_of_three_entries_is_certain(size: int, remaining: float, fits: bool) -> None:
    expected = EXPECTED[:size]
    gradient = expected * drawn(size, seed=8).numpy()
    candidates = [(MISSING, (1 + remaining) * gradient)]
    likely = likeliest(gradient, expected, candidates, 1e-3)
    assert likely == LikelyMistakes(fits and size == 3, (MISSING,) if fits or size == 3 else ())


def test_a_truncated_series_that_fits_too_leaves_it_open() -> None:
    gradient = EXPECTED**2
    likely = likeliest(gradient, EXPECTED, [(MISSING, gradient), (SERIES, gradient)], 1e-3)
    assert likely == LikelyMistakes(False, (MISSING, SERIES))


def test_every_mistake_at_places_has_a_factor_of_its_own() -> None:
    kinds = {kind for kind in MistakeKind if kind.name.startswith("PLACES_")}
    assert mistakes.OF_PLACES.keys() == kinds
    assert {*mistakes.OF_PLACES.values()} == {*SAID}
