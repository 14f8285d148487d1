"""What a dataset is, and what several datasets share: random codes, atoms chosen from data, images,
tables.
"""

from ..validation import check_options
from .dataset import (
    ArraysDataset,
    ConvolutionalDataset,
    Dataset,
    Draw,
    SparseCodingDataset,
    ToTensor,
    path_option,
)
from .given import GivenProblems

__all__ = [
    "ArraysDataset",
    "ConvolutionalDataset",
    "Dataset",
    "Draw",
    "GivenProblems",
    "SparseCodingDataset",
    "ToTensor",
    "check_options",
    "path_option",
]
