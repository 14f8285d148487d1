"""Inner algorithms that are unrolled, their thresholding rules, and differentiation through their
layers.
"""

from . import kernels as kernels  # registers its faster ways
from .algorithm import Algorithm, State, Trajectory
from .ista import Fista, Ista
from .noodl import Noodl
from .smooth import Accelerated, GradientDescent, NewtonCg
from .stepless import ActiveSet, CoordinateDescent, Iteration

__all__ = [
    "Accelerated",
    "ActiveSet",
    "Algorithm",
    "CoordinateDescent",
    "Fista",
    "GradientDescent",
    "Ista",
    "Iteration",
    "NewtonCg",
    "Noodl",
    "State",
    "Trajectory",
]
