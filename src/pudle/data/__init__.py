"""What a dataset is, and what several datasets share: checks of options, random codes, atoms chosen
from data, images.
"""

from .dataset import ConvolutionalDataset, Dataset, Draw, SparseCodingDataset

__all__ = ["ConvolutionalDataset", "Dataset", "Draw", "SparseCodingDataset"]
