"""Solutions, certificates and bounds where each number is known in closed form: diagonal
dictionaries, and a single atom.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from comparisons import relative
from convolutions import chain, convolutional, dense_twin
from examples import sparse_problem
from tolerances import SAME_ARITHMETIC

import pudle
from pudle.references import lasso
from pudle.references.convolutional import ConvolutionalModel
from pudle.references.lasso import LassoSolution, implicit_gradient, lasso_gradient, solve_lasso
from pudle.references.linear_model import DenseModel
from pudle.references.records import Certificate

L2 = 0.5
#: The Hessian is diagonal as well, so that ``z_j = S_penalty(d_j x_j) / (d_j^2 + L2)``.
DIAGONAL = np.array([2.0, 1.0, 0.5])
HESSIAN = DIAGONAL**2 + L2


def diagonal(observations, **fields) -> pudle.SparseCoding:
    x, d = torch.tensor(observations, dtype=torch.float64), torch.diag(torch.tensor(DIAGONAL))
    return pudle.SparseCoding(
        observations=x, dictionary=d, penalty=0.2, **{"l2_penalty": L2} | fields
    )


class TestDiagonal:
    """Correlations d_j x_j of (6, -1, 0.05) and (0.1, 0.1, 0.1), the second below every threshold."""

    OBSERVATIONS = ((3.0, -1.0, 0.1), (0.05, 0.1, 0.2))

    @pytest.mark.parametrize(
        ("nonnegative", "penalty", "codes", "expected"),
        [
            (
                False,
                0.2,
                (5.8, -0.8, 0.0),
                {"dual_margin": 0.1, "smallest_amplitude": 0.8 / 1.5, "smallest_eigenvalue": 1.5},
            ),
            (
                True,
                0.2,
                (5.8, 0.0, 0.0),
                {"dual_margin": 0.1, "smallest_amplitude": 5.8 / 4.5, "smallest_eigenvalue": 4.5},
            ),
            (
                False,
                (0.4, 0.3, 0.15),
                (5.6, -0.7, 0.0),
                {"dual_margin": 0.05, "smallest_amplitude": 0.7 / 1.5, "smallest_eigenvalue": 1.5},
            ),
        ],
    )
    def test_codes_and_certificate(self, nonnegative, penalty, codes, expected):
        model = DenseModel(diagonal(self.OBSERVATIONS))
        solution = solve_lasso(model, torch.tensor(penalty, dtype=torch.float64), nonnegative)
        truth = np.array([np.divide(codes, HESSIAN), (0, 0, 0)])
        assert np.abs(solution.codes.numpy() - truth).max() < 1e-15 and solution.reason == ""
        certificate = solution.certificate
        for name, value in expected.items():
            assert getattr(certificate, name) == pytest.approx(value, rel=1e-12), name
        assert certificate.largest_eigenvalue == pytest.approx(4.5, rel=1e-12)
        assert certificate.condition_number == pytest.approx(
            4.5 / expected["smallest_eigenvalue"], rel=1e-12
        )
        assert (certificate.samples, certificate.uncertified, certificate.zero_codes) == (2, 0, 0.5)
        assert certificate.kkt_residual < 1e-14 and 0 < certificate.code_error < 1e-13
        assert 0 < certificate.iterations < 100
        # No entry of the second code is active: nothing can move it.
        assert solution.errors[1] == 0 and solution.smallest_eigenvalues[1] == math.inf

    def test_without_active_entries_there_are_no_eigenvalues(self):
        certificate = solve_lasso(DenseModel(diagonal(self.OBSERVATIONS)), 100.0, False).certificate
        assert (certificate.smallest_eigenvalue, certificate.largest_eigenvalue) == (math.inf, 0)
        assert (certificate.smallest_amplitude, certificate.condition_number) == (math.inf, 1)
        assert certificate.dual_margin == 94 and certificate.zero_codes == 1

    def test_a_solver_that_is_stopped_leaves_its_violation(self, monkeypatch):
        """All codes are zero: the largest correlation, 6, exceeds the penalty by 5.8."""
        monkeypatch.setattr(lasso, "MAX_ITERATIONS", 0)
        certificate = solve_lasso(DenseModel(diagonal(self.OBSERVATIONS)), 0.2, False).certificate
        assert (
            certificate.kkt_residual == pytest.approx(5.8, rel=1e-12)
            and certificate.uncertified == 1
        )

    def test_samples_with_too_many_active_entries_are_counted_by_themselves(self, monkeypatch):
        monkeypatch.setattr(DenseModel, "max_active", 1)
        solution = solve_lasso(DenseModel(diagonal(self.OBSERVATIONS)), 0.2, False)
        assert (
            solution.reason
            == "1 of 2 samples are not certified: 0 have a singular active Gram matrix, 0 miss the"
            " optimality conditions or a safe margin from a change of support, 1 have more"
            " active entries (up to 2) than are solved exactly: raise the penalty or take"
            " smaller images"
        )
        monkeypatch.setattr(DenseModel, "max_active", 2)
        assert (
            solve_lasso(DenseModel(diagonal(self.OBSERVATIONS)), 0.2, False).certificate.uncertified
            == 0
        )

    @pytest.mark.parametrize(
        ("observations", "iterations"),
        [
            # The signs are compared after 50 iterations, and each time that their number has grown
            # by three tenths.
            ([[0.0, 0.1]], 50),
            ([[0.0, 1.0]], 65),
            # An active matrix that stays singular is given up at the fifth look: after 65, 84, 109,
            # 141 and 183 iterations.
            ([[1.0, 0.0]], 183),
            ([[0.0, 0.1], [1.0, 0.0], [0.0, 1.0]], 183),
        ],
    )
    def test_each_sample_is_looked_at_until_its_signs_rest(self, observations, iterations):
        d = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
        x = torch.tensor(observations, dtype=torch.float64)
        solution = solve_lasso(
            DenseModel(pudle.SparseCoding(observations=x, dictionary=d, penalty=0.2)), 0.2, False
        )
        assert solution.certificate.iterations == iterations
        # The sum of equal atoms is known though neither of them is.
        assert (solution.codes @ d.T - (x - x.clamp(-0.2, 0.2))).abs().max() < 1e-12

    def test_samples_that_fail_are_counted_by_their_reason(self):
        """One sample on a pair of equal atoms, one on the edge of its support, and one that is
        well.
        """
        d = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
        x = torch.tensor([[1.0, 0.0], [0.0, 0.2 + 1e-15], [0.0, 1.0]], dtype=torch.float64)
        reference = pudle.reference(pudle.SparseCoding(observations=x, dictionary=d, penalty=0.2))
        assert (
            reference.reason
            == "2 of 3 samples are not certified: 1 have a singular active Gram matrix, 1 miss the"
            " optimality conditions or a safe margin from a change of support"
        )
        certificate = reference.certificate
        assert (reference.status, certificate.uncertified, certificate.condition_number) == (
            "uncertified",
            2,
            math.inf,
        )
        # Of the regular matrices.
        assert certificate.largest_eigenvalue == pytest.approx(1)


def test_the_solver_is_accelerated():
    """At condition number 1e4 it takes about sqrt(1e4) iterations a few times; without momentum or
    restarts, thousands.
    """
    random = np.random.default_rng(0)
    left, right = (np.linalg.qr(random.standard_normal((12, 12)))[0] for _ in range(2))
    d = torch.tensor(left @ np.diag(np.geomspace(1, 1e-2, 12)) @ right)
    x = torch.tensor(random.standard_normal((4, 12)))

    def iterations(rows):
        solution = solve_lasso(
            DenseModel(pudle.SparseCoding(observations=rows, dictionary=d, penalty=1e-3)),
            1e-3,
            False,
        )
        assert solution.reason == ""
        return solution.certificate.iterations

    alone = [iterations(row[None]) for row in x]
    assert 100 < iterations(x) < 1000 and len(set(alone)) > 1
    # Samples restart on their own.
    assert iterations(x) == max(alone)


class TestOneAtom:
    """Numbers such that no two terms of a bound cancel: it is the derivative in the code, times the
    error of the code.

    The mean over equal samples is that of one.
    """

    A, X, Z, ERROR = 1.5, 2.0, 3.0, 1e-6

    def solution(self) -> LassoSolution:
        eigenvalue = torch.tensor([self.A**2 + L2] * 2, dtype=torch.float64)
        codes, errors = (
            torch.tensor([[self.Z]] * 2, dtype=torch.float64),
            torch.tensor([self.ERROR] * 2, dtype=torch.float64),
        )
        return LassoSolution(codes, errors, eigenvalue, Certificate(2), "")

    def model(self, l2: float = L2) -> DenseModel:
        x, a = (
            torch.tensor([[self.X]] * 2, dtype=torch.float64),
            torch.tensor([[self.A]], dtype=torch.float64),
        )
        return DenseModel(
            pudle.SparseCoding(observations=x, dictionary=a, penalty=0.2, l2_penalty=l2)
        )

    def test_lasso_gradient(self):
        """``(a z - x) z``, whose derivative is ``2 a z - x``."""
        gradient, error = lasso_gradient(
            self.model(), self.solution().codes, self.solution().errors
        )
        assert float(gradient) == pytest.approx((self.A * self.Z - self.X) * self.Z, rel=1e-14)
        assert error == pytest.approx((2 * self.A * self.Z - self.X) * self.ERROR, rel=1e-6)

    @pytest.mark.parametrize("penalized", [False, True])
    @pytest.mark.parametrize("target", [None, 1.25])
    def test_implicit_gradient(self, penalized, target):
        """``e z - r v - a v z`` with ``e = a z - y``, ``r = a z - x`` and v from the code, by
        central differences.
        """
        penalty, y = 0.2, self.X if target is None else target

        def formula(z: float) -> float:
            right = self.A * (self.X - y) + (0 if penalized else -penalty - L2 * z)
            v = right / (self.A**2 + L2)
            return (self.A * z - y) * z - (self.A * z - self.X) * v - self.A * v * z

        targets = None if target is None else torch.tensor([[target]] * 2, dtype=torch.float64)
        gradient, error = implicit_gradient(
            self.model(), penalty, self.solution(), targets=targets, penalized=penalized
        )
        assert float(gradient) == pytest.approx(formula(self.Z), rel=1e-13)
        slope = (formula(self.Z + 1e-4) - formula(self.Z - 1e-4)) / 2e-4
        if target is None:
            assert error == pytest.approx(slope * self.ERROR, rel=1e-6)
        else:
            # The solution v has the other sign, so that terms cancel.
            assert slope * self.ERROR < error < 3 * slope * self.ERROR

    def test_rounding_alone_is_no_error_of_a_code(self):
        """Without an error of the code a few roundings of the terms remain, whatever the penalty."""
        exact = dataclasses.replace(self.solution(), errors=torch.zeros(2, dtype=torch.float64))
        size = (self.A * self.Z + self.X) * self.Z
        for error in (
            lasso_gradient(self.model(), exact.codes, exact.errors)[1],
            implicit_gradient(self.model(), 0.2, exact, targets=None, penalized=False)[1],
        ):
            assert 1e-16 * size < error < 1e-15 * size


#: Linear models with the matrix that each stands for, and the entries of the filters in it.
MODELS = {
    "dense": lambda: (DenseModel(sparse_problem()), sparse_problem(), None),
    "elastic": lambda: (DenseModel(diagonal(np.eye(3))), diagonal(np.eye(3)), None),
    "convolutional": lambda: (ConvolutionalModel(convolutional()), *dense_twin(convolutional())),
    "convolutional elastic": lambda: (
        ConvolutionalModel(convolutional(l2_penalty=0.1)),
        *dense_twin(convolutional(l2_penalty=0.1)),
    ),
}


@pytest.mark.parametrize("kind", MODELS)
class TestLinearModels:
    def test_products_are_those_of_the_matrix(self, kind):
        model, twin, entries = MODELS[kind]()
        a, x = twin.dictionary.numpy(), twin.observations.numpy()
        random = np.random.default_rng(7)
        z, r = random.standard_normal((len(x), a.shape[1])), random.standard_normal(x.shape)
        codes, residual = torch.tensor(z), torch.tensor(r)
        assert model.values == x.shape[1]
        assert relative(model.synthesize(codes), z @ a.T) < SAME_ARITHMETIC
        assert relative(model.correlate(residual), r @ a) < SAME_ARITHMETIC
        assert (
            relative(model.hessian_product(codes), z @ a.T @ a + twin.l2_penalty * z)
            < SAME_ARITHMETIC
        )
        assert (
            relative(model.negative_gradient(codes), (x - z @ a.T) @ a - twin.l2_penalty * z)
            < SAME_ARITHMETIC
        )
        product = (
            r.T @ z if entries is None else chain(r.T @ z, entries, model.problem.dictionary.shape)
        )
        assert relative(model.contract(residual, codes), product) < SAME_ARITHMETIC

    def test_norms_are_those_of_the_matrix(self, kind):
        model, twin, entries = MODELS[kind]()
        a = twin.dictionary.numpy()
        largest = np.linalg.norm(a, 2)
        assert largest * (1 - 1e-12) <= model.spectral_norm <= 1.01 * largest
        assert model.lipschitz_constant == pytest.approx(largest**2 + twin.l2_penalty, rel=1e-2)
        # Filters are cut where an image ends: these norms are bounds, and those of the filters in
        # its middle.
        norms = np.linalg.norm(a, axis=0)
        assert (norms <= model.column_norms.numpy() * (1 + 1e-12)).all()
        assert model.column_norms.max() == pytest.approx(norms.max(), rel=1e-12)

    def test_active_systems_are_those_of_the_matrix(self, kind):
        model, twin, _ = MODELS[kind]()
        hessian = twin.dictionary.numpy().T @ twin.dictionary.numpy() + twin.l2_penalty * np.eye(
            twin.dictionary.shape[1]
        )
        random = np.random.default_rng(8)
        active = random.random((len(model.observations), len(hessian))) < 3 / len(hessian)
        active[0], active[1, 0] = False, True
        right = random.standard_normal(active.shape) * active
        wanted = np.arange(len(active)) != 2
        seen = set()
        for rows, indices, matrices in model.active_hessians(
            torch.tensor(active), torch.tensor(wanted)
        ):
            for row, support, matrix in zip(
                rows.tolist(), indices.numpy(), matrices.numpy(), strict=True
            ):
                seen.add(row)
                assert support.tolist() == np.flatnonzero(active[row]).tolist()
                assert np.abs(matrix - hessian[np.ix_(support, support)]).max() < SAME_ARITHMETIC
        assert seen == set(np.flatnonzero(wanted & active.any(1)))
        truth = np.zeros_like(right)
        for i, mask in enumerate(active):
            truth[i, mask] = np.linalg.solve(hessian[np.ix_(mask, mask)], right[i, mask])
        solution, residuals = model.solve_refined(torch.tensor(active), torch.tensor(right))
        assert relative(solution, truth) < SAME_ARITHMETIC and float(residuals.max()) < 1e-13
        definite, singular = model.solve_definite(*map(torch.tensor, (active, right, wanted)))
        assert relative(definite, truth * wanted[:, None]) < SAME_ARITHMETIC and not singular.any()


def test_singular_active_systems_have_the_solution_zero():
    """An atom that is zero, two atoms that are equal, and a regular one; the last sample is not
    wanted.
    """
    d = torch.tensor([[0.0, 2.0, 2.0, 0.0], [0.0, 0.0, 0.0, 4.0]], dtype=torch.float64)
    model = DenseModel(
        pudle.SparseCoding(observations=torch.ones(4, 2).double(), dictionary=d, penalty=0.2)
    )
    active = torch.tensor([[1, 0, 0, 0], [0, 1, 1, 0], [0, 1, 0, 1], [0, 1, 0, 1]]).bool()
    solution, singular = model.solve_definite(
        active, 8 * active.double(), torch.tensor([True, True, True, False])
    )
    assert singular.tolist() == [True, True, False, False]
    assert solution.tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [0, 2, 0, 0.5], [0, 0, 0, 0]]
    # Of two equations that contradict each other, ``4 (v_1 + v_2) = 8`` and ``= 0``, the mean is
    # solved.
    right = torch.tensor([[0, 0, 0, 0], [0, 8, 0, 0], [0, 8, 0, 8], [0, 8, 0, 8]]).double()
    solution, residuals = model.solve_refined(active, right)
    assert (
        solution - torch.tensor([[0, 0, 0, 0], [0, 0.5, 0.5, 0], [0, 2, 0, 0.5], [0, 2, 0, 0.5]])
    ).abs().max() < 1e-15
    assert residuals.tolist() == pytest.approx([0, math.sqrt(32), 0, 0], abs=1e-14)


@pytest.mark.parametrize(("stride", "overlap"), [(1, 3.0), (2, 2.0), (3, 1.0)])
def test_overlap_is_the_norm_of_the_contraction(stride, overlap):
    """Constant codes and an image of the pixels that lie in most patches reach it, but for the
    edges of the image.
    """
    image, filters = (
        torch.ones(1, 1, 90, 90, dtype=torch.float64),
        torch.ones(1, 1, 3, 3, dtype=torch.float64),
    )
    problem = pudle.ConvolutionalSparseCoding(
        observations=image, dictionary=filters, penalty=1.0, stride=stride
    )
    model = ConvolutionalModel(problem)
    codes = torch.ones(problem.code_shape, dtype=torch.float64).flatten(1)
    patches = model.synthesize(codes)
    residual = (patches == patches.max()).double()
    ratio = float(model.contract(residual, codes).norm() / (residual.norm() * codes.norm()))
    assert model.overlap == overlap and 0.9 * overlap < ratio <= overlap * (1 + 1e-12)
