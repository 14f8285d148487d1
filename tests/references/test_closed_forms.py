"""Solutions, certificates and bounds where each number is known in closed form: diagonal
dictionaries, and a single atom.
"""

import math

import numpy as np
import pytest
import torch

import pudle
from pudle.references.convolutional import ConvolutionalModel
from pudle.references.lasso import DenseModel, solve_lasso

L2 = 0.5
#: The Hessian is diagonal as well, so that ``z_j = S_penalty(d_j x_j) / (d_j^2 + L2)``.
DIAGONAL = np.array([2.0, 1.0, 0.5])
HESSIAN = DIAGONAL**2 + L2


def diagonal(observations, **fields):
    x, d = torch.tensor(observations, dtype=torch.float64), torch.diag(torch.tensor(DIAGONAL))
    return pudle.SparseCoding(
        observations=x, dictionary=d, penalty=0.2, **{"l2_penalty": L2} | fields
    )


class TestDiagonal:
    """Correlations d_j x_j of (6, -1, 0.05), and of (0.1, 0.1, 0.1), below every threshold."""

    OBSERVATIONS = ((3.0, -1.0, 0.1), (0.05, 0.1, 0.2))

    @pytest.mark.parametrize(
        "nonnegative, penalty, codes, expected",
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

    def test_samples_with_too_many_active_entries_are_counted_by_themselves(self, monkeypatch):
        monkeypatch.setattr(DenseModel, "max_active", 1)
        solution = solve_lasso(DenseModel(diagonal(self.OBSERVATIONS)), 0.2, False)
        assert "1 of 2 samples are not certified: 0 have a singular active" in solution.reason
        assert "0 miss the optimality conditions or a safe margin from" in solution.reason
        assert "1 have more active entries (up to 2) than are solved exactly" in solution.reason
        monkeypatch.setattr(DenseModel, "max_active", 2)
        assert (
            solve_lasso(DenseModel(diagonal(self.OBSERVATIONS)), 0.2, False).certificate.uncertified
            == 0
        )


@pytest.mark.parametrize("stride, overlap", [(1, 3.0), (2, 2.0), (3, 1.0)])
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
