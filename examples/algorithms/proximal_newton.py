"""Proximal gradient steps, each followed by a damped Newton step on its support."""

from dataclasses import dataclass

import torch

from pudle.algorithms import Algorithm, State


@dataclass(frozen=True)
class ProximalNewton(Algorithm):
    """Proximal steps with a regularized Hessian (Lee, Sun, Saunders 2014); quadratic f, dense A."""

    damping: float = 0.1
    name = "proximal_newton"

    def advance(self, problem, state, step):
        codes = self.proximal_step(problem, state.codes, step, state.iteration)
        active = problem.active(codes).to(codes.dtype)
        identity = torch.eye(codes.shape[1]).to(codes)
        hessian = problem.matrix.T @ problem.matrix + problem.l2_penalty * identity
        systems = active[:, :, None] * hessian * active[:, None, :]
        systems = systems + torch.diag_embed(self.damping / step * active + (1 - active))
        moved = codes - torch.linalg.solve(systems, problem.stationarity(codes) * active)
        # A sample whose signs the Newton step would change keeps its proximal step.
        keeps_signs = (moved.sign() == codes.sign()).all(1, keepdim=True)
        codes = torch.where(keeps_signs, moved, codes)
        return State(codes, codes, iteration=state.iteration + 1)
