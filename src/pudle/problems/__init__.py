"""Problems: the inner objective that an algorithm minimizes, and the outer loss whose gradient is
estimated.
"""

from .convolutional import ConvolutionalSparseCoding, ThresholdedConvolutionalSparseCoding
from .fixed_point import FixedPoint
from .l1 import L1Problem, PenaltySelection, SparseCoding
from .problem import Problem
from .ridge import Ridge
from .strongly_convex import Constants, StronglyConvex

__all__ = [
    "Constants",
    "ConvolutionalSparseCoding",
    "FixedPoint",
    "L1Problem",
    "PenaltySelection",
    "Problem",
    "Ridge",
    "SparseCoding",
    "StronglyConvex",
    "ThresholdedConvolutionalSparseCoding",
]
