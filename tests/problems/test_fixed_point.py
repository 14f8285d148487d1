"""Any torch iteration as a problem: every estimator that can treat it, against central differences
and closed forms.
"""

import dataclasses
import functools

import numpy as np
import pytest
import torch
from support.estimators.estimator_specs import estimate
from support.oracles import in_numpy, tolerances
from support.oracles.comparisons import refusal, relative
from support.problems.small_problems import directions

import pudle
from pudle.references import limits

ITERATION = pudle.Iteration()
DEPTH = 120


def tensor(*shape, seed):
    return torch.tensor(np.random.default_rng([seed, 577]).standard_normal(shape))


def nonsymmetric(samples=4, tanh=torch.tanh):
    """A layer whose Jacobian has complex eigenvalues, of modulus below 0.8."""
    matrix, offset = tensor(5, 5, seed=1), tensor(samples, 5, seed=2)
    theta = 0.05 * tensor(5, 5, seed=3)
    matrix = 0.7 * matrix / torch.linalg.matrix_norm(matrix, 2)

    def step(codes, theta):
        return tanh(codes @ (matrix + theta).T + offset)

    def loss(codes, theta):
        return (codes**3).sum() / len(codes) + 0.1 * (theta**2).sum()

    return pudle.FixedPoint(theta, step, loss, torch.zeros(samples, 5).double())


def heavy_ball(solved=False):
    """Least squares by gradient steps with momentum, a state of two tensors; the minimizer has a
    closed form.
    """
    matrix, right = tensor(8, 3, seed=4), tensor(8, seed=5)

    def step(state, theta):
        position = state["position"]
        slope = matrix.T @ (matrix @ position - right) + theta.exp() * position
        velocity = 0.3 * state["velocity"] - 0.05 * slope
        return {"position": position + velocity, "velocity": velocity}

    def loss(state, theta):
        return state["position"].square().sum() + state["velocity"].sum()

    def solution(theta):
        hessian = matrix.T @ matrix + torch.diag(theta.exp())
        position = torch.linalg.solve(hessian, matrix.T @ right)
        return {"position": position, "velocity": torch.zeros_like(position)}

    initial = dict.fromkeys(("position", "velocity"), torch.zeros(3).double())
    return pudle.FixedPoint(tensor(3, seed=6), step, loss, initial, solution if solved else None)


PROBLEMS = {"nonsymmetric": nonsymmetric, "two tensors": heavy_ball}


@functools.cache
def central_differences(which):
    """Return the gradient of the loss after many plain steps, by calling the user's functions
    alone.
    """
    problem = PROBLEMS[which]()

    def value(theta):
        state = problem.initial
        for _ in range(DEPTH):
            state = problem.step(state, theta)
        return float(problem.loss(state, theta))

    gradient = torch.zeros_like(problem.theta)
    for index in np.ndindex(*problem.theta.shape):
        axis = torch.zeros_like(gradient)
        axis[index] = 1
        gradient[index] = in_numpy.central_difference(value, problem.theta, axis)
    return gradient


def test_conjugate_gradients_notice_that_the_system_is_not_symmetric():
    mine = estimate("conjugate_gradient", nonsymmetric(), ITERATION, 50)
    assert mine.diagnostics["normal_equations"]
    matrix, right = tensor(4, 4, seed=8), tensor(4, seed=9)
    hessian = matrix.T @ matrix / 10
    descent = pudle.FixedPoint(
        torch.tensor(0.1).double(),
        lambda z, theta: z - 0.5 * (hessian @ z + theta * z - right),
        lambda z, theta: z.square().sum(),
        torch.zeros(4).double(),
    )
    mine = estimate("conjugate_gradient", descent, ITERATION, 50)
    assert not mine.diagnostics["normal_equations"]


@pytest.mark.parametrize("transposed", [True, False])
@pytest.mark.parametrize("samples", [4, 60], ids=["dense", "gmres"])
def test_linear_systems_against_numpy(samples, transposed):
    problem = nonsymmetric(samples=samples)
    codes, right = tensor(samples, 5, seed=11), tensor(samples, 5, seed=12)
    jacobian = torch.autograd.functional.jacobian(problem.stationarity, codes).reshape(
        5 * samples, -1
    )
    matrix = (jacobian.T if transposed else jacobian).numpy()
    expected = np.linalg.solve(matrix, right.numpy().ravel())
    solve = problem.solve_active if transposed else problem.solve_tangent
    solution, diagnostics = solve(codes, right)
    assert relative(solution.flatten(), torch.tensor(expected)) < tolerances.CLOSED_FORM
    assert diagnostics["largest_relative_residual"] < 1e-13
    radius = np.abs(np.linalg.eigvals(np.eye(5 * samples) - jacobian.numpy())).max()
    if samples == 4:
        assert problem.linearized(codes).spectral_radius() == pytest.approx(radius, rel=1e-9)


@pytest.mark.parametrize("transposed", [True, False])
@pytest.mark.parametrize("size", [5, 300], ids=["dense", "gmres"])
def test_a_step_that_does_not_use_its_state_has_the_identity_as_system(size, transposed):
    theta, right = tensor(size, seed=13), tensor(1, size, seed=14)
    problem = pudle.FixedPoint(
        theta, lambda z, theta: theta.sin(), lambda z, theta: z.square().sum(), 0 * theta
    )
    solve = problem.solve_active if transposed else problem.solve_tangent
    solution, diagnostics = solve(theta.sin()[None], right.clone())
    assert relative(solution, right) < tolerances.CLOSED_FORM
    assert diagnostics["largest_relative_residual"] < 1e-13


#: The weight of the entropy in optimal transport.
REGULARIZATION = 0.3
#: Sizes whose systems are solved by a matrix, and by GMRES.
TRANSPORTS = [(6, False), (6, True), (140, True)]


def transport(n, named):
    """Entropic optimal transport by Sinkhorn's iterations: a constant may be added to potentials.

    The state is one potential of n points, or both; the loss is the cost of the plan.
    """
    random = np.random.default_rng([n, 241])
    cost = torch.tensor(random.uniform(0, 1, (n, n + 1)))

    def potential(other, costs):
        shares = torch.logsumexp((other - costs) / REGULARIZATION, 1)
        return -REGULARIZATION * (shares - np.log(costs.shape[1]))

    def both(state, theta):
        g = potential(state["f"] if named else state, theta.T)
        return potential(g, theta), g

    def step(state, theta):
        f, g = both(state, theta)
        return {"f": f, "g": g} if named else f

    def loss(state, theta):
        f, g = state.values() if named else (state, both(state, theta)[1])
        plan = ((f[:, None] + g - theta) / REGULARIZATION).exp() / (n * (n + 1))
        return (plan * cost).sum()

    initial = {"f": torch.zeros(n).double(), "g": torch.zeros(n + 1).double()}
    return pudle.FixedPoint(cost, step, loss, initial if named else initial["f"])


def transport_cost(problem, theta):
    """The cost of the plan in numpy, by Sinkhorn's scaling of the kernel."""
    kernel = np.exp(-theta / REGULARIZATION)
    n, m = kernel.shape
    scale = np.ones(n)
    for _ in range(300):
        other = 1 / (m * (kernel.T @ scale))
        scale = 1 / (n * (kernel @ other))
    return float((scale[:, None] * kernel * other * problem.theta.numpy()).sum())


@pytest.mark.parametrize("n, named", TRANSPORTS)
def test_fixed_points_that_are_not_isolated_have_a_gradient(n, named):
    """The linear system is singular, and the loss does not change along its null space."""
    problem = transport(n, named)
    reference = pudle.reference(problem)
    assert reference.status == "limit", reference.reason
    assert reference.bound < tolerances.USEFUL_BOUND
    for direction in directions(problem.theta.shape):
        slope = in_numpy.central_difference(
            lambda theta: transport_cost(problem, theta), problem.theta.numpy(), direction
        )
        mine = float((reference.gradient * torch.tensor(direction)).sum())
        size = float(reference.gradient.norm())
        assert abs(mine - slope) < tolerances.EXACT_CENTRAL_DIFFERENCES * size
    for spec in ("backprop", "analytic"):
        mine = pudle.score(estimate(spec, problem, ITERATION, DEPTH), reference)
        assert mine.relative_error < tolerances.CONVERGED


def test_without_a_solution_of_the_singular_system_there_is_none():
    problem = dataclasses.replace(transport(6, False), loss=lambda f, theta: f.square().sum())
    text = refusal(lambda: estimate("analytic", problem, ITERATION, 9), pudle.UnsupportedProblem)
    assert "eigenvalue near one" in text and "backprop" in text
    reference = pudle.reference(problem)
    assert reference.status == "uncertified" and "loss changes along" in reference.reason
    assert "backprop" not in reference.reason


def test_a_loss_that_is_stationary_at_the_limit_has_a_gradient():
    """That of the dual value, greatest at the potentials, is the plan, with equal marginals."""

    def value(f, theta):
        shares = ((f[:, None] - theta) / REGULARIZATION).logsumexp(0)
        return f.mean() - REGULARIZATION * shares.mean()

    plan = pudle.reference(dataclasses.replace(transport(6, False), loss=value)).gradient
    assert plan.sum(0).tolist() == pytest.approx(7 * [1 / 7])
    assert plan.sum(1).tolist() == pytest.approx(6 * [1 / 6])


def test_without_a_graph_no_gradient_is_zero():
    problem = transport(6, False)
    with torch.inference_mode():
        assert "use torch.no_grad" in refusal(lambda: estimate("backprop", problem, ITERATION, 9))


@pytest.mark.parametrize("sizes", ["n_inner=20, kappa=1e3", "n_inner=300, kappa=100"])
def test_a_slow_step_has_its_limit(sizes):
    """Gradient descent on an ill-conditioned quadratic problem, by a matrix and by GMRES: plain
    steps need 10^4 layers and more. The truth is a dense solve.
    """
    smooth = pudle.make_dataset(f"quadratic(n_samples=3000, n_outer=3, {sizes})").problem()
    form, eta = in_numpy.Quadratic(smooth), 1 / smooth.lipschitz_constant
    A, C, a = (torch.tensor(each) for each in (form.A, form.C, form.a))

    def step(z, theta):
        return z - eta * (A @ z + C @ (theta - smooth.theta) + a)

    reference = pudle.reference(pudle.FixedPoint(smooth.theta, step, smooth.loss, smooth.initial))
    assert reference.status == "limit", reference.reason
    assert reference.certificate.samples == 1
    assert relative(reference.gradient, form.gradient()) < reference.bound < tolerances.USEFUL_BOUND


class OnceOnly(torch.autograd.Function):
    """A hyperbolic tangent that can be differentiated once."""

    @staticmethod
    def forward(context, values):
        context.save_for_backward(values.tanh())
        return values.tanh()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(context, slope):
        (image,) = context.saved_tensors
        return slope * (1 - image**2)


#: Steps through code that torch can differentiate only once, in reverse mode.
ONCE = nonsymmetric(tanh=OnceOnly.apply)


@pytest.mark.parametrize("spec", ["analytic", "backprop", "checkpointed", "fixed_point(terms=200)"])
def test_reverse_mode_is_enough(spec):
    error = relative(
        estimate(spec, ONCE, ITERATION, DEPTH).gradient, central_differences("nonsymmetric")
    )
    assert error < tolerances.EXACT_CENTRAL_DIFFERENCES
    assert pudle.reference(ONCE).status == "limit"


@pytest.mark.parametrize("spec", ["conjugate_gradient", "forward"])
def test_others_say_what_is_missing(spec):
    text = refusal(lambda: estimate(spec, ONCE, ITERATION, 3), pudle.UnsupportedProblem)
    assert "differentiate" in text and ", not this one" in text


def test_plain_steps_go_on_where_newtons_method_lacks_a_derivative(monkeypatch):
    """Without a matrix it needs the second one."""
    monkeypatch.setattr(limits, "PATIENCE", 20)
    assert pudle.reference(nonsymmetric(60, OnceOnly.apply)).status == "limit"


@pytest.mark.parametrize("which", PROBLEMS)
def test_the_limit_agrees_with_central_differences(which):
    reference, truth = pudle.reference(PROBLEMS[which]()), central_differences(which)
    assert (reference.status, reference.target) == ("limit", "limit")
    assert reference.bound < tolerances.USEFUL_BOUND
    assert relative(reference.gradient, truth) < tolerances.EXACT_CENTRAL_DIFFERENCES


def test_a_solution_makes_it_exact():
    problem = heavy_ball(solved=True)
    reference, limit = pudle.reference(problem), pudle.reference(problem, "limit")
    assert (reference.status, reference.target, limit.status) == ("certified", "exact", "limit")
    assert reference.bound < tolerances.USEFUL_BOUND
    assert relative(limit.gradient, reference.gradient) < limit.bound + reference.bound


def test_a_wrong_solution_is_found():
    problem = heavy_ball(solved=True)

    for change, words in (
        (lambda value: 2 * value, "no fixed point"),
        (torch.Tensor.detach, "differ by"),
    ):

        def changed(theta, change=change):
            return {name: change(value) for name, value in problem.solution(theta).items()}

        wrong = pudle.reference(dataclasses.replace(problem, solution=changed))
        assert wrong.status == "uncertified" and words in wrong.reason


@pytest.mark.parametrize("factor, status", [(0.9, "certified"), (1.5, "uncertified")])
def test_a_solution_that_the_step_leaves_is_not_scored_against(factor, status):
    theta, initial = torch.tensor([0.3, 0.5]).double(), torch.zeros(2).double()
    problem = pudle.FixedPoint(
        theta,
        lambda state, theta: factor * state + theta,
        lambda state, theta: state.square().sum(),
        initial,
        lambda theta: theta / (1 - factor),
    )
    reference = pudle.reference(problem)
    assert reference.status == status
    assert ("spectral radius of the step's derivative is 1.5" in reference.reason) == (factor > 1)


@pytest.mark.parametrize(
    "step, words",
    [
        (lambda z, theta: 1.5 * theta * z + 1, "diverges"),
        # Steps that lead to no fixed point: a cycle of two states, and chaos.
        (lambda z, theta: theta - z, "state still changes"),
        (lambda z, theta: (3 + 0.9 * theta) * z * (1 - z), "state still changes"),
        # Central differences see a value that torch cannot follow.
        (lambda z, theta: 0.5 * z + theta + theta.detach(), "central differences"),
    ],
)
def test_what_has_no_limit_is_not_scored(step, words):
    initial = torch.linspace(0.1, 0.9, 9).double()
    theta = torch.tensor(1.0).double()
    problem = pudle.FixedPoint(theta, step, lambda z, theta: z.square().sum(), initial)
    reference = pudle.reference(problem)
    assert reference.status == "uncertified" and words in reference.reason
    score = pudle.score(estimate("backprop", problem, ITERATION, 3), reference)
    assert score.status == "uncertified" and np.isnan(score.relative_error)


def test_an_iteration_has_no_step_size_and_no_rule():
    assert pudle.Iteration(step=1.0) == ITERATION == pudle.make_algorithm("iteration")


@pytest.mark.parametrize(
    "step, words",
    [
        (lambda z, theta: z[:2], "(2, 5)"),
        (lambda z, theta: {"z": z}, "a mapping with z"),
        (
            lambda z, theta: z @ torch.ones(5, 5),
            "convert the data that it holds with .to(theta)",
        ),
        (lambda z, theta: z.mul_(0.5), "in place"),
    ],
)
def test_wrong_steps_are_refused(step, words):
    problem = dataclasses.replace(nonsymmetric(), step=step)
    assert words in refusal(lambda: ITERATION.run(problem, 1))
