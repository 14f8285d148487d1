"""What a dataset is, and what several datasets share: checks of options, random codes, atoms chosen
from data, images, tables.
"""

from .dataset import ArraysDataset, ConvolutionalDataset, Dataset, Draw, SparseCodingDataset

__all__ = ["ArraysDataset", "ConvolutionalDataset", "Dataset", "Draw", "SparseCodingDataset"]
