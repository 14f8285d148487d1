"""What a dataset is, and what several datasets share: random codes, atoms chosen from data, images,
tables.
"""

from .dataset import (
    ArraysDataset,
    ConvolutionalDataset,
    Dataset,
    Draw,
    SparseCodingDataset,
    ToTensor,
    path_option,
)

__all__ = [
    "ArraysDataset",
    "ConvolutionalDataset",
    "Dataset",
    "Draw",
    "SparseCodingDataset",
    "ToTensor",
    "path_option",
]
