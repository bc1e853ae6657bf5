"""Provides small real data sets, and reads files and folders, with the same global batches on any number of ranks."""

from lossframe.data.augmentation import Augmentation
from lossframe.data.conflict import ConflictingTasks
from lossframe.data.csv_file import CsvFile
from lossframe.data.evaluation import GroupedBatchSampler
from lossframe.data.images import Digits, ImageData, ImageFolder, Mnist5k
from lossframe.data.in_memory import DataOptions, InMemoryData
from lossframe.data.loader import BatchLoader
from lossframe.data.module_loaders import shard_loaders
from lossframe.data.pairs import ImagePairs, ImageRows, ImageTriplets
from lossframe.data.pairs_file import ImageRowsFile
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
from lossframe.data.two_digits import TwoDigits
from lossframe.data.workers import WorkerLoader, sharded

__all__ = [
    "Augmentation",
    "BatchLoader",
    "BreastCancer",
    "ClassBalancedBatchSampler",
    "ConflictingTasks",
    "CsvFile",
    "DataOptions",
    "Diabetes",
    "DigitHalves",
    "Digits",
    "GlobalBatchSampler",
    "GroupedBatchSampler",
    "ImageData",
    "ImageFolder",
    "ImagePairs",
    "ImageRows",
    "ImageRowsFile",
    "ImageTriplets",
    "InMemoryData",
    "Mnist5k",
    "OrderedBatchSampler",
    "SamplerFactory",
    "ShardedBatchSampler",
    "ShuffledBatchSampler",
    "TabularData",
    "TwoDigits",
    "WorkerLoader",
    "balanced",
    "shard_loaders",
    "sharded",
    "shuffled",
]
