"""Every term of a bound, by hand: all numbers here are exact in binary, so that what remains is
what rounding may do.

A bound that lost a term, or has one twice, is none, or hides what estimators differ by; drawn
problems notice a factor of twenty at most.
"""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

import pudle
from pudle.references import lasso
from pudle.references.lasso import (
    DenseModel,
    LassoSolution,
    implicit_gradient,
    lasso_gradient,
    solve_lasso,
)
from pudle.references.records import Certificate

#: Rounding unit of float64.
U = 2.0**-53


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def close(value):
    """Formulas in plain floats, against the same in torch; 1e-12, the absolute tolerance of
    pytest's own, is far above these bounds.
    """
    return pytest.approx(value, rel=1e-9, abs=0)


class TestCodes:
    """Atoms ``2 e_1, e_2, e_3 / 2``, l2 1/2 and penalty 1/2, so that ``z_j = S_{1/2}(d_j x_j) /
    (d_j^2 + 1/2)``.

    The first sample has the code (1, b, 0) and the correlations (1/2, +-1/2, 1/8); the second (1,
    0, 0) and (1/2, 0, 0).
    """

    ATOMS = (2.0, 1.0, 0.5)

    def model(self, b):
        rows = [[2.5, 1.5 * b + math.copysign(0.5, b), 0.25], [2.5, 0.0, 0.0]]
        problem = pudle.SparseCoding(
            observations=tensor(rows),
            dictionary=torch.diag(tensor(self.ATOMS)),
            penalty=0.5,
            l2_penalty=0.5,
        )
        return DenseModel(problem)

    def expected(self, b):
        """Bounds on the errors of the codes, and for each sample the safety from which it is not
        certified.
        """
        errors, limits = [], []
        for x, z in (
            ((2.5, 1.5 * b + math.copysign(0.5, b), 0.25), (1, b, 0)),
            ((2.5, 0, 0), (1, 0, 0)),
        ):
            active = [j for j in range(3) if z[j]]
            residual = math.hypot(*x) + math.hypot(2 * z[0], z[1])
            residual *= U * math.sqrt(3 + len(active))
            rounding = [
                residual * atom + U * 0.5 * abs(entry)
                for atom, entry in zip(self.ATOMS, z, strict=True)
            ]
            violation = math.sqrt(len(active)) * max(rounding[j] for j in active)
            smallest = min(self.ATOMS[j] ** 2 + 0.5 for j in active)
            errors.append(violation / smallest)
            slack = {j: 0.5 - abs(self.ATOMS[j] * x[j]) for j in range(3) if j not in active}
            moves = {
                j: rounding[j] + violation / math.sqrt(smallest) * self.ATOMS[j] for j in slack
            }
            amplitude = min(abs(entry) for entry in z if entry)
            limits.append(min([slack[j] / moves[j] for j in slack] + [amplitude / errors[-1]]))
        return errors, limits

    # The second amplitude is so small that it limits the safety of its sample; else the margin of
    # the third atom does.
    @pytest.mark.parametrize("b", [-2.0, 0.25])
    def test_errors_of_the_codes(self, b):
        solution = solve_lasso(self.model(b), 0.5, False)
        assert solution.codes.numpy() == pytest.approx(np.array([[1, b, 0], [1, 0, 0]]), rel=1e-15)
        assert solution.certificate.kkt_residual == 0
        errors, _ = self.expected(b)
        assert solution.errors.tolist() == close(errors)
        assert solution.certificate.code_error == close(max(errors))

    @pytest.mark.parametrize("b", [-2.0, 0.25])
    def test_a_sample_is_certified_up_to_a_safety_that_follows_from_its_own_numbers(
        self, b, monkeypatch
    ):
        _, limits = self.expected(b)
        for limit in limits:
            for safety in (limit * (1 - 1e-6), limit * (1 + 1e-6)):
                monkeypatch.setattr(lasso, "SAFETY", safety)
                failed = sum(safety > each for each in limits)
                assert solve_lasso(self.model(b), 0.5, False).certificate.uncertified == failed

    def test_a_condition_number_of_the_limit_is_singular(self, monkeypatch):
        """Of the two active entries of the first sample the Hessian has the diagonal (9/2, 3/2)."""
        for limit, singular in ((3 * (1 + 1e-12), 0), (3.0, 1), (1.0, 2)):
            monkeypatch.setattr(lasso, "SINGULAR", limit)
            solution = solve_lasso(self.model(-2.0), 0.5, False)
            assert solution.certificate.uncertified == singular
            assert (
                f"{singular} have a singular active Gram matrix, 0 miss" in solution.reason
            ) == bool(singular)


class TestGradients:
    """One atom of four ones, l2 4 and penalty 2: the Hessian is 8, and ``A^T s = 8`` for the shift
    s of four twos.
    """

    CODES = (1.0, -2.0)
    OBSERVATIONS = ((3.0, 1.0, 1.0, 1.0), (-1.0, -2.0, 2.0, -2.0))
    SHIFTS = ((2.0, 2.0, 2.0, 2.0), (4.0, -4.0, 0.0, 0.0))
    L2, PENALTY, ERRORS = 4.0, 2.0, (2.0**-40, 2.0**-42)

    def model(self, l2=L2):
        return DenseModel(
            pudle.SparseCoding(
                observations=tensor(self.OBSERVATIONS),
                dictionary=torch.ones(4, 1).double(),
                penalty=2.0,
                l2_penalty=l2,
            )
        )

    def solution(self, errors=ERRORS, l2=L2):
        codes = tensor(self.CODES)[:, None]
        return LassoSolution(
            codes, tensor(errors), torch.full((2,), 4 + l2).double(), Certificate(2), ""
        )

    def mean(self, term):
        """Mean over the samples of a term in ``x, z, r``, the shift and the error of the code."""
        a = np.ones(4)
        samples = zip(
            np.array(self.OBSERVATIONS), self.CODES, np.array(self.SHIFTS), self.ERRORS, strict=True
        )
        return float(
            np.mean([term(x, z, a * z - x, shift, error) for x, z, shift, error in samples])
        )

    @pytest.mark.parametrize("l2", [0.0, 4.0, 12.0])
    @pytest.mark.parametrize("penalized", [False, True])
    @pytest.mark.parametrize("shifted", [False, True])
    @pytest.mark.parametrize("exact", [False, True])
    def test_implicit_gradient(self, l2, penalized, shifted, exact):
        norm, a = np.linalg.norm, np.ones(4)

        def parts(x, z, r, shift, error):
            shift, error = shift * shifted, error * (not exact)
            right = a @ shift - (not penalized) * (self.PENALTY * np.sign(z) + l2 * z)
            return shift, error, r + shift, right / (4 + l2)

        def term(x, z, r, shift, error):
            shift, error, e, v = parts(x, z, r, shift, error)
            rounding = U * math.sqrt(5) * ((4 + l2) * abs(v) + 2 * norm(shift))
            dv = (rounding + l2 * error * (not penalized)) / (4 + l2)
            first = (norm(e) + 2 * abs(z) + 4 * abs(v)) * error + (norm(r) + 2 * abs(z)) * dv
            first += U * math.sqrt(5) * (norm(x) + 2 * abs(z)) * (abs(z) + abs(v))
            sizes = norm(e) * abs(z) + norm(r) * abs(v) + norm(shift) * abs(z) + 2 * abs(v) * abs(z)
            return first + U * math.sqrt(2 + 4) * sizes

        def gradient_at(i):
            def entry(x, z, r, shift, error):
                _, _, e, v = parts(x, z, r, shift, error)
                return e[i] * z - r[i] * v - v * z

            return entry

        targets = tensor(np.subtract(self.OBSERVATIONS, self.SHIFTS)) if shifted else None
        solution, model = self.solution((0.0, 0.0) if exact else self.ERRORS, l2), self.model(l2)
        gradient, error = implicit_gradient(
            model, self.PENALTY, solution, targets=targets, penalized=penalized
        )
        truth = [self.mean(gradient_at(i)) for i in range(4)]
        assert gradient.ravel().tolist() == pytest.approx(truth, rel=1e-14, abs=1e-15)
        assert error == close(self.mean(term))
        if penalized and not shifted:
            # The codes minimize this loss: nothing goes through them.
            same, own = lasso_gradient(model, solution.codes, solution.errors)
            assert torch.equal(same, gradient) and own == error
            # The overlap of a convolution multiplies all of it.
            model.overlap = 3.0
            assert lasso_gradient(model, solution.codes, solution.errors)[1] == close(3 * error)


class TestPenaltySelection:
    """Two orthogonal atoms of four ones, penalty 1; nine held-out values that are ``z_1 + z_2``
    alike.
    """

    CODES = ((1.0, -2.0), (3.0, 0.0))
    HELD_OUT = ((1.0,) * 4 + (-3.0,) * 5, (2.0,) * 8 + (4.0,))

    def problem(self, log_penalty):
        design = torch.zeros(8, 2).double()
        design[:4, 0] = design[4:, 1] = 1
        # The signs of the codes times the penalty are the correlations of the residual: four
        # times a quarter.
        codes, residual = tensor(self.CODES), tensor(self.CODES).sign() / 4
        return pudle.PenaltySelection(
            observations=(codes + residual) @ design.T,
            design=design,
            held_out_design=torch.ones(9, 2).double(),
            held_out_observations=tensor(self.HELD_OUT),
            log_penalty=log_penalty,
        )

    @pytest.mark.parametrize("weighted", [False, True])
    def test_bound(self, weighted):
        errors, sensitivities = [], []
        for z, y in zip(np.array(self.CODES), np.array(self.HELD_OUT), strict=True):
            x = np.repeat(z + np.sign(z) / 4, 4)
            r = z.sum() - y
            v = r.sum() * (z != 0) / 4
            code_error = (
                math.sqrt((z != 0).sum())
                * 2
                * U
                * math.sqrt(8 + (z != 0).sum())
                * (np.linalg.norm(x) + 2 * np.linalg.norm(z))
                / 4
            )
            spectral = math.sqrt(18)
            rounding = U * math.sqrt(8) * 4 * np.linalg.norm(v)
            sizes = np.linalg.norm(y) + np.linalg.norm(r) + 3 * np.linalg.norm(z)
            rounding += U * math.sqrt(9 + (z != 0).sum()) * spectral * sizes
            error = (spectral**2 * code_error + rounding) / 4
            summed = U * math.sqrt(2 + 2) * abs(v[z != 0]).sum()
            errors.append(np.linalg.norm(np.sign(z)) * error + summed)
            sensitivities.append(-np.sign(z) * v)
        gradient = np.mean(sensitivities, 0)
        gradient = gradient if weighted else gradient.sum()
        reference = pudle.reference(self.problem(torch.zeros(2 if weighted else ()).double()))
        assert reference.codes.tolist() == [list(z) for z in self.CODES]
        assert reference.gradient.numpy() == pytest.approx(gradient, rel=1e-14)
        assert reference.bound == close(np.mean(errors) / np.linalg.norm(gradient))


def test_ridge():
    """Orthogonal atoms of norms 2 and sqrt(12), strength 4: the Hessian has the diagonal (8,
    16).
    """
    dictionary = tensor([[1, 1, 1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1, 1, 3]]).T
    # Such that ``D^T x = H z`` and ``c = H v``.
    codes, v, weights = (
        np.array([[1.0, -2.0], [4.0, 1.0]]),
        np.array([1.0, 4.0]),
        np.array([8.0, 64.0]),
    )
    x = codes @ [[2, 2, 2, 2, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1, 2, 4]]
    reference = pudle.reference(
        pudle.Ridge(
            observations=tensor(x), dictionary=dictionary, strength=4.0, weights=tensor(weights)
        )
    )
    assert (
        reference.codes.tolist() == codes.tolist()
        and float(reference.gradient) == -(codes @ v).mean()
    )
    norm, rounding = np.linalg.norm, U * math.sqrt(8 + 2)
    error_v = rounding * (norm(weights) + 16 * norm(v)) / 8
    errors = [
        rounding * (math.sqrt(12) * norm(row) + 16 * norm(z)) / 8
        for row, z in zip(x, codes, strict=True)
    ]
    error = np.mean(
        [own * norm(v) + norm(z) * error_v for own, z in zip(errors, codes, strict=True)]
    )
    certificate = reference.certificate
    assert reference.bound == close(error / abs((codes @ v).mean()))
    assert certificate.code_error == close(max(errors))
    assert (certificate.smallest_eigenvalue, certificate.condition_number) == (8, 2)


def test_equal_rows_round_alike():
    x, d, penalty = map(Fraction, (1.3, 0.7, 0.4))
    z = (d * x - penalty) / d**2
    problem = pudle.SparseCoding(
        observations=tensor(30_000 * [[1.3]]), dictionary=tensor([[0.7]]), penalty=0.4
    )
    reference = pudle.reference(problem)
    assert abs(Fraction(float(reference.gradient)) / (z * (d * z - x)) - 1) < reference.bound
