"""Certificates at every scale of the data: the bound holds, and the units in which the data come do
not matter.
"""

import dataclasses

import numpy as np
import pytest
import torch
from support.oracles.in_numpy import solve
from support.problems.convolutions import chain, dense, entries_of

import pudle

pytestmark = pytest.mark.skipif(
    np.finfo(np.longdouble).eps > 1e-18,
    reason="numpy's long double is no more precise than double here",
)

#: A problem may lose its certificate by its scale alone in this share of the draws.
LOST_TO_SCALE = 0.05
#: The share of its bound that the error of one problem among 250 takes at least.
KIND_SHARES = {
    pudle.SparseCoding: 0.05,
    pudle.ConvolutionalSparseCoding: 0.002,
    pudle.PenaltySelection: 0.01,
    pudle.Ridge: 0.04,
}
KINDS = ("dense", "dense", "dense", "convolutional", "penalty", "ridge")


def extended(tensor):
    return tensor.double().numpy().astype(np.longdouble)


def operator(problem):
    """The matrix A of one sample."""
    if isinstance(problem, pudle.ConvolutionalSparseCoding):
        return dense(extended(problem.dictionary), entries_of(problem))
    return extended(problem.matrix)


def contracted(problem, residuals, codes):
    """Gradient of ``sum_i <r_i, A z_i>`` in the dictionary, in extended precision."""
    gradient = residuals.T @ codes
    if isinstance(problem, pudle.ConvolutionalSparseCoding):
        gradient = chain(gradient, entries_of(problem), problem.dictionary.shape)
    return gradient


def exact_gradient(problem, signs):
    """Exact gradient in extended precision, on supports with these signs, whose optimality is
    verified here.
    """
    x = extended(problem.observations.flatten(1))
    if isinstance(problem, pudle.Ridge):
        d = extended(problem.dictionary)
        hessian = d.T @ d + np.longdouble(problem.strength) * np.eye(d.shape[1])
        v = solve(hessian, extended(problem.weights))
        return -np.mean([solve(hessian, d.T @ row) @ v for row in x])
    a, l2 = operator(problem), np.longdouble(problem.l2_penalty)
    penalty = np.broadcast_to(np.asarray(problem.penalty, dtype=np.longdouble), signs.shape[1:])
    z, v = np.zeros((2, *signs.shape), np.longdouble)
    held_out = problem.loss == "held_out"
    for i, sign in enumerate(signs):
        (support,) = np.nonzero(sign)
        if len(support):
            atoms = a[:, support]
            hessian = atoms.T @ atoms + l2 * np.eye(len(support))
            z[i, support] = solve(hessian, atoms.T @ x[i] - penalty[support] * sign[support])
            if held_out:
                b = extended(problem.held_out_design)
                right = b.T @ (b @ z[i] - extended(problem.held_out_observations)[i])
            else:
                right = a.T @ (a @ z[i] - x[i])
            v[i, support] = solve(hessian, right[support])
    assert (np.sign(z) == signs).all()
    excess = (x - z @ a.T) @ a - l2 * z
    assert ((signs != 0) | ((excess if problem.nonnegative else abs(excess)) < penalty)).all()
    if held_out:
        return -(penalty * signs * v).mean(0).sum()
    e = z @ a.T - x
    gradient = contracted(problem, e, z)
    if problem.loss == "reconstruction":
        gradient = gradient - contracted(problem, e, v) - contracted(problem, v @ a.T, z)
    return gradient / len(x)


def scaled(problem, atoms, data):
    """The same problem in other units: D times `atoms`, x times `data`, and the penalties as it
    follows.
    """
    if isinstance(problem, pudle.PenaltySelection):
        return dataclasses.replace(
            problem,
            observations=problem.observations * data,
            design=problem.design * atoms,
            held_out_observations=problem.held_out_observations * (data / atoms),
            log_penalty=(problem.log_penalty.exp() * (atoms * data)).log(),
        )
    moved = {"observations": problem.observations * data, "dictionary": problem.dictionary * atoms}
    if isinstance(problem, pudle.Ridge):
        return dataclasses.replace(problem, strength=problem.strength * atoms**2, **moved)
    return dataclasses.replace(
        problem,
        penalty=problem.penalty * atoms * data,
        l2_penalty=problem.l2_penalty * atoms**2,
        **moved,
    )


def draw(random):
    """A random problem at unit scale, whose atoms have norms that differ by up to a factor of a
    hundred.
    """
    kind = KINDS[random.integers(len(KINDS))]
    n, m, p = random.integers(1, 6), *random.integers(1, 61, 2)

    def normal(*shape):
        return torch.tensor(random.standard_normal(shape))

    if kind == "convolutional":
        images, filters = normal(n, 1, 9, 9), normal(3, 1, 3, 3)
        base = pudle.ConvolutionalSparseCoding(
            observations=images, dictionary=filters, penalty=1.0, stride=2
        )
        largest = float(base.adjoint(images).abs().max())
        return dataclasses.replace(base, penalty=largest * random.uniform(0.2, 0.8))
    d, x = normal(m, p), normal(n, m)
    d = d / torch.linalg.norm(d, dim=0)
    if random.random() < 0.3:
        d = d * torch.tensor(10 ** random.uniform(-1, 1, p))
    if kind == "ridge":
        return pudle.Ridge(
            observations=x, dictionary=d, strength=10 ** random.uniform(-4, 0), weights=normal(p)
        )
    penalty, nonnegative = (
        float((x @ d).abs().max()) * random.uniform(0.05, 0.8),
        bool(random.random() < 0.3),
    )
    if kind == "penalty":
        design = normal(random.integers(1, 30), p)
        return pudle.PenaltySelection(
            observations=x,
            design=d,
            held_out_design=design,
            held_out_observations=normal(n, len(design)),
            log_penalty=torch.tensor(np.log(penalty)),
            nonnegative=nonnegative,
        )
    return pudle.SparseCoding(
        observations=x,
        dictionary=d,
        penalty=penalty,
        nonnegative=nonnegative,
        loss=("lasso", "reconstruction")[random.integers(2)],
        l2_penalty=0.1 * random.random() * (random.random() < 0.3),
    )


def check(draws):
    """Count the certified problems, those outside their bound, and those that only another scale
    would certify.

    Return as well the largest share of its bound that an error takes, for every kind of problem.
    """
    counts, shares = {"certified": 0, "outside": 0, "lost": 0}, dict.fromkeys(KIND_SHARES, 0.0)
    for number in draws:
        random = np.random.default_rng([number, 1789])
        unit = draw(random)
        problem = scaled(unit, *10 ** random.uniform(-6, 6, 2))
        reference = pudle.reference(problem)
        if reference.status != "certified":
            counts["lost"] += pudle.reference(unit).status == "certified"
            continue
        truth = exact_gradient(problem, np.sign(reference.codes.flatten(1).numpy()))
        error, size = (
            np.linalg.norm(np.ravel(a).astype(float))
            for a in (reference.gradient.numpy() - truth, truth)
        )
        counts["certified"] += 1
        counts["outside"] += int(error > reference.bound * size)
        shares[type(problem)] = max(shares[type(problem)], error / (reference.bound * size))
    return counts, shares


def test_no_certified_gradient_is_outside_its_bound_at_any_scale():
    counts, shares = check(range(250))
    assert counts["outside"] == 0 and counts["certified"] > 150
    assert counts["lost"] <= LOST_TO_SCALE * 250
    # A bound that no error comes near would hide what estimators differ by.
    assert all(shares[kind] > least for kind, least in KIND_SHARES.items()), shares


@pytest.mark.parametrize("number", range(12))
def test_powers_of_four_change_no_digit(number):
    """Such factors, and their square roots, are exact in binary, so that every step of the solver
    scales exactly.
    """
    unit = draw(np.random.default_rng([number, 1789]))
    if isinstance(unit, pudle.PenaltySelection):
        pytest.skip("the logarithm of a scaled penalty is rounded")
    mine, other = pudle.reference(unit), pudle.reference(scaled(unit, 4.0**9, 4.0**-8))
    assert mine.status == other.status
    assert mine.bound == pytest.approx(other.bound, rel=1e-9, abs=0)
    assert torch.equal(mine.codes * 4.0**-17, other.codes)
