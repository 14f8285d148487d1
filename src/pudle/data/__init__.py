"""What a dataset is, and what several datasets share: random codes, atoms chosen from data, images,
tables.
"""

from ..validation import check_options
from .dataset import (
    PATH,
    ArraysDataset,
    ConvolutionalDataset,
    Dataset,
    Draw,
    FloatArray,
    SparseCodingDataset,
    ToTensor,
)
from .given_problems import GivenProblems

__all__ = [
    "PATH",
    "FloatArray",
    "ArraysDataset",
    "ConvolutionalDataset",
    "Dataset",
    "Draw",
    "GivenProblems",
    "SparseCodingDataset",
    "ToTensor",
    "check_options",
]
