"""Inner algorithms that are unrolled, their thresholding rules, and differentiation through their
layers.
"""

from . import kernels as kernels  # registers its faster ways
from .algorithm import Algorithm, State, Trajectory
from .ista import Fista, Ista, Noodl
from .stepless import ActiveSet, CoordinateDescent, Iteration

__all__ = [
    "ActiveSet",
    "Algorithm",
    "CoordinateDescent",
    "Fista",
    "Ista",
    "Iteration",
    "Noodl",
    "State",
    "Trajectory",
]
