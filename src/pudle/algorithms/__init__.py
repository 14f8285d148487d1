"""Inner algorithms that are unrolled, their thresholding rules, and differentiation through their
layers.
"""

from . import kernels as kernels  # registers its faster ways
from .active_set import ActiveSet
from .algorithm import Algorithm, State, Trajectory
from .coordinate_descent import CoordinateDescent
from .fista import Fista
from .ista import Ista
from .iteration import Iteration
from .noodl import Noodl

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
