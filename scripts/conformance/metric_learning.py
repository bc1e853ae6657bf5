"""All losses of pytorch-metric-learning, and its miners and reference embeddings."""

from typing import Any

import torch
from pytorch_metric_learning import losses, miners
from torch import Tensor, nn

from conformance.case import Case, D, Inputs, N, scores

CLASSES = 3
"""Number of classes; the batch holds as many samples of each, in order, as SmoothAPLoss wants."""
WITHOUT_CASE = {"BaseLossWrapper", "BaseMetricLossFunction", "GenericPairLoss"}
"""Abstract bases."""


class Mined(nn.Module):
    """Calls a miner on the batch that the loss sees, as ranks that gather it need."""

    def __init__(self, loss: nn.Module, miner: nn.Module) -> None:
        super().__init__()
        self.loss, self.miner = loss, miner

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of the mined pairs or triplets."""
        value: Tensor = self.loss(embeddings, labels, self.miner(embeddings, labels))
        return value


def _batch() -> Inputs:
    return scores(D), torch.arange(N) // (N // CLASSES)


_WITH_PROXIES = (
    "ArcFaceLoss", "CosFaceLoss", "LargeMarginSoftmaxLoss", "NormalizedSoftmaxLoss", "ProxyAnchorLoss", "ProxyNCALoss",
    "SoftTripleLoss", "SphereFaceLoss",
)  # fmt: skip
_WITH_ARGUMENTS: dict[str, Any] = {
    **dict.fromkeys(_WITH_PROXIES, (CLASSES, D)),
    "HistogramLoss": (20,),
    "P2SGradLoss": (D, CLASSES),
    "RankedListLoss": (0.4, 10),
}
_ON_OTHERS: dict[str, tuple[Any, Any, tuple[int, ...]]] = {
    "ManifoldLoss": (lambda: losses.ManifoldLoss(D, K=6), lambda: (scores(D),), (0,)),
    "SelfSupervisedLoss": (
        lambda: losses.SelfSupervisedLoss(losses.NTXentLoss()),
        lambda: (scores(D), scores(D)),
        (0, 1),
    ),
    "VICRegLoss": (losses.VICRegLoss, lambda: (scores(D), None, None, scores(D)), (0, 3)),
}
_OTHERS: dict[str, Any] = {
    "CrossBatchMemory": lambda: losses.CrossBatchMemory(losses.ContrastiveLoss(), D, memory_size=32),
    "SubCenterArcFaceLoss": lambda: losses.SubCenterArcFaceLoss(num_classes=CLASSES, embedding_size=D),
    "MultipleLosses": lambda: losses.MultipleLosses([losses.ContrastiveLoss(), losses.TripletMarginLoss()]),
}
NOTE = "its reducers return a single number"


def names() -> list[str]:
    """Return the names of all losses that are modules."""
    found = {name: value for name, value in vars(losses).items() if isinstance(value, type)}
    return sorted(name for name, loss in found.items() if issubclass(loss, nn.Module) and name not in WITHOUT_CASE)


def _case(name: str) -> Case:
    if name in _ON_OTHERS:
        make, inputs, differentiable = _ON_OTHERS[name]
        return Case(name, make, inputs, differentiable=differentiable, note=NOTE)
    make = _OTHERS.get(name, lambda: getattr(losses, name)(*_WITH_ARGUMENTS.get(name, ())))
    return Case(name, make, _batch, note=NOTE)


CASES = [
    *(_case(name) for name in names()),
    Case(
        "TripletMarginLoss with MultiSimilarityMiner",
        lambda: Mined(losses.TripletMarginLoss(), miners.MultiSimilarityMiner()),
        _batch,
        note=NOTE,
    ),
    Case(
        "NTXentLoss with ref_emb",
        losses.NTXentLoss,
        lambda: (*_batch(), None, *_batch()),
        differentiable=(0, 3),
        note=NOTE,
    ),
]
