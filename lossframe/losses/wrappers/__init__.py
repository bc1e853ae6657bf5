"""Wraps a loss in another: `Masked`, `CrossBatchMemory`, `Distilled`."""

from lossframe.losses.wrappers.distilled import Distilled
from lossframe.losses.wrappers.masked import Masked
from lossframe.losses.wrappers.memory import CrossBatchMemory

__all__ = ["CrossBatchMemory", "Distilled", "Masked"]
