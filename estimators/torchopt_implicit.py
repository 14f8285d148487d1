"""Implicit differentiation by TorchOpt, a peer to measure against."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pudle import peers
from pudle.estimator import (
    Algorithm,
    CheckedOptions,
    Contribution,
    ImplicitEstimator,
    Problem,
    State,
)
from pudle.problems import SparseCoding


@dataclass(frozen=True)
class TorchoptImplicit(CheckedOptions, peers.Peer, ImplicitEstimator):
    r"""Implicit differentiation at the codes z_T by ``torchopt.diff.implicit.custom_root``.

    The root is that of the inner objective's gradient restricted to the active set S of z_T,

    .. math:: F(z, D)_S = D_S^\top (D_S z_S - x) + \lambda \operatorname{sign}(z_S), \qquad F(z,
              D)_{\bar S} = z_{\bar S},

    whose Jacobian is symmetric: the estimate of `analytic`, with TorchOpt's solve in place of the
    exact one. The solve is TorchOpt's default, conjugate gradients on the normal equations, here
    with options that let it converge (its own default is a relative residual of 1e-5). One
    recursion serves all samples, so that the worst conditioned of them sets the number of
    iterations, and the normal equations square that condition; but where the system is singular
    they still have a solution.

    Cost: T layers forward, one solve by at most 2 ``iterations`` + 1 Hessian-vector products over
    all samples; memory independent of T.

    Parameters
    ----------
    iterations : int
        Largest number of iterations, >= 1.
    rtol : float
        Stop when the residual of the normal equations is at most this many times their right-hand
        side; the dtype's rounding unit where that is larger.
    """

    iterations: int = 1000
    rtol: float = 1e-13

    name = "torchopt_implicit"
    references = (
        (
            "Ren, Feng, Liu, Pan, Fu, Mai and Yang, TorchOpt: An Efficient Library for"
            " Differentiable Optimization, JMLR 2023"
        ),
        (
            "Rajeswaran, Finn, Kakade and Levine, Meta-Learning with Implicit Gradients, NeurIPS"
            " 2019"
        ),
    )
    computes = "implicit"
    distributions = ("torchopt",)
    instead = "conjugate_gradient"

    def through_codes(
        self, problem: Problem, algorithm: Algorithm, state: State, code_gradient: Tensor
    ) -> Contribution:
        """Solve by TorchOpt's implicit function of the active system, and return the gradient
        through the codes with ``solves`` and ``largest_relative_residual``, without an adjoint.

        Imports torchopt.
        """
        assert isinstance(problem, SparseCoding)  # as `needs` says
        codes, active, signs = state.codes, problem.active(state.codes), state.codes.sign()
        right = torch.where(active, code_gradient, 0)
        solver = peers.require("torchopt.linear_solve").solve_normal_cg(
            maxiter=self.iterations, rtol=max(self.rtol, torch.finfo(codes.dtype).eps)
        )

        def optimality(solution: Tensor, dictionary: Tensor, offset: Tensor) -> Tensor:
            slope = problem.with_theta(dictionary).smooth_gradient(torch.where(active, solution, 0))
            return torch.where(active, slope + problem.penalty * signs, solution) - offset

        root = peers.require("torchopt.diff.implicit").custom_root(
            optimality, argnums=(1, 2), solve=solver
        )(lambda initial, dictionary, offset: initial)
        with peers.quiet():
            through_codes, solution = peers.pull_back(
                problem, codes, right, lambda live, offset: root(codes, live.dictionary, offset)
            )
        residual = torch.where(active, solution @ problem.hessian - right, 0)
        return through_codes, {
            "solves": 1,
            "largest_relative_residual": peers.relative_residual(residual, right),
        }
