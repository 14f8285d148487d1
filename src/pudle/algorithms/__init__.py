"""Inner algorithms: what is unrolled, their thresholding rules, and reverse-mode differentiation through their layers."""

from .algorithm import Algorithm, State, Trajectory
from .fista import Fista
from .ista import Ista

__all__ = ["Algorithm", "Fista", "Ista", "State", "Trajectory"]
