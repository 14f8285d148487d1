"""DrMAD: reverse mode along the straight line between the first and the last codes."""

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from pudle.algorithms import Algorithm, State
from pudle.algorithms.unrolling import check_depths, differentiable, direct_gradients
from pudle.estimator import Estimate, GradientEstimator
from pudle.problems import Problem


@dataclass(frozen=True)
class DrMad(GradientEstimator):
    r"""Reverse mode through all layers, each differentiated at a point on the line from z_0 to z_T, not at its own input.

    .. math:: \tilde z_t = (1 - t/T) \, z_0 + (t/T) \, z_T, \qquad
              g = \partial_\theta \ell + \sum_{t=1}^{T} \Big[ \prod_{s=t}^{T-1} \partial_z \Phi_s(\tilde z_s) \,
              \partial_\theta \Phi_{t-1}(\tilde z_{t-1}) \Big]^\top \partial_z \ell

    with both derivatives of the loss at :math:`z_T`, and factors of later layers further left. The states of the layers are
    never stored. Everything that a layer passes on lies on such a line, an accelerated method's extrapolated point as well;
    its momentum, which is not differentiated, is that of the run.

    It equals `backprop` where the codes do move on a straight line at constant speed. They do not here: they approach the
    minimizer exponentially, so that :math:`\tilde z_t` lags behind. The error vanishes with depth on the lasso loss, as that
    of `alternating`; elsewhere only as 1/T, since just the last layers count and there the line is off by a share of 1/T.

    Cost: 2 T layers forward, T backward, no solves; stored are the tensors of one layer, whatever T.
    """

    name = "drmad"
    references = ("Fu, Luo, Feng, Low and Chua, DrMAD: Distilling reverse-mode automatic differentiation, IJCAI 2016",)
    computes = "approximate"
    consistent_for = ("lasso",)

    def estimate(self, problem: Problem, algorithm: Algorithm, depth: int) -> Estimate:
        (depth,) = check_depths([depth])
        step, first = algorithm.step_size(problem), algorithm.start(problem)
        momenta, last = [], first
        with torch.no_grad():
            for _ in range(depth):
                momenta.append(last.momentum)
                last = algorithm.advance(problem, last, step)
        direct, code_gradient = direct_gradients(problem, last.codes)
        adjoints = direct, code_gradient, torch.zeros_like(code_gradient)
        for iteration in reversed(range(depth)):
            share = iteration / depth
            codes, point = (torch.lerp(getattr(first, name), getattr(last, name), share) for name in ("codes", "point"))
            state = State(codes, point, momenta[iteration], iteration)
            adjoints = layer_adjoints(problem, algorithm, state, step, adjoints)
        return Estimate(adjoints[0], last.codes, {"layers": 2 * depth, "layers_differentiated": depth})


def layer_adjoints(
    problem: Problem, algorithm: Algorithm, state: State, step: float, adjoints: tuple[Tensor, Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Carry the adjoints of theta, codes and point back over the layer that follows any state, made by a layer or not."""
    with torch.enable_grad():
        live, theta = differentiable(problem)
        codes, point = state.codes.detach().requires_grad_(), state.point.detach().requires_grad_()
        after = algorithm.advance(live, dataclasses.replace(state, codes=codes, point=point), step)
        # With theta among the outputs, the sum over layers is made by the same call.
        return torch.autograd.grad(
            (theta, after.codes, after.point), (theta, codes, point), adjoints, allow_unused=True, materialize_grads=True
        )
