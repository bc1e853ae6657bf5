"""Provides small real data sets that work offline, with the same global batches on any number of ranks."""

from lossframe.data.images import Digits, ImageData, ImageFolder, Mnist5k
from lossframe.data.in_memory import DataOptions, InMemoryData
from lossframe.data.loader import BatchLoader
from lossframe.data.samplers import (
    ClassBalancedBatchSampler,
    GlobalBatchSampler,
    OrderedBatchSampler,
    SamplerFactory,
    ShardedBatchSampler,
    ShuffledBatchSampler,
    balanced,
    shuffled,
)
from lossframe.data.tabular import BreastCancer, Diabetes, DigitHalves, TabularData

__all__ = [
    "BatchLoader",
    "BreastCancer",
    "ClassBalancedBatchSampler",
    "DataOptions",
    "Diabetes",
    "DigitHalves",
    "Digits",
    "GlobalBatchSampler",
    "ImageData",
    "ImageFolder",
    "InMemoryData",
    "Mnist5k",
    "OrderedBatchSampler",
    "SamplerFactory",
    "ShardedBatchSampler",
    "ShuffledBatchSampler",
    "TabularData",
    "balanced",
    "shuffled",
]
