"""Losses over all pairs or triplets of a batch, against pytorch-metric-learning and one `torch.cdist`."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.cases import Case, Contestant, Step, at_sizes
from lossframe import losses

FEATURES = 128


def embedded(size: int, device: torch.device, per_class: int) -> tuple[Tensor, Tensor]:
    """Return embeddings of length 1, and labels with so many samples a class."""
    embeddings = torch.nn.functional.normalize(torch.randn(size, FEATURES)).to(device)
    return embeddings.requires_grad_(), torch.arange(size, device=device) // per_class


def ours(size: int, device: torch.device, name: str, classes: int = 0, per_class: int = 16, **options: Any) -> Step:
    """Prepare forward and backward of one of our losses, with so many classes or so many samples a class."""
    embeddings, labels = embedded(size, device, max(1, size // classes) if classes else per_class)
    criterion = getattr(losses, name)(**options)
    return lambda: criterion(embeddings, labels).backward()


def theirs(
    size: int, device: torch.device, name: str, average: str = "", classes: int = 0, per_class: int = 16, **options: Any
) -> Step:
    """Prepare the same of pytorch-metric-learning, with a reducer of its own."""
    from pytorch_metric_learning import losses as metric_learning
    from pytorch_metric_learning import reducers

    embeddings, labels = embedded(size, device, max(1, size // classes) if classes else per_class)
    reducer = {"reducer": getattr(reducers, average)()} if average else {}
    criterion = getattr(metric_learning, name)(**options, **reducer)
    return lambda: criterion(embeddings, labels).backward()


def cdist(size: int, device: torch.device) -> Step:
    """Prepare the sum of all distances, forward and backward."""
    embeddings, _ = embedded(size, device, 1)
    return lambda: torch.cdist(embeddings, embeddings).sum().backward()


CDIST = Contestant("torch.cdist", cdist, largest=8192)
PML = "pytorch-metric-learning"


def batch_all(sizes: list[int], classes: int, largest: int) -> list[Case]:
    """Return batch-all triplets with some large classes, or (0) with 16 samples a class, in both averages."""
    cases = []
    for average, reducer in (("nonzero", "AvgNonZeroReducer"), ("all", "MeanReducer")):
        options: dict[str, Any] = {"margin": 0.2, "classes": classes}
        mine = partial(ours, name="BatchAllTripletLoss", distance="euclidean", average=average, **options)
        peer = partial(theirs, name="TripletMarginLoss", triplets_per_anchor="all", average=reducer, **options)
        shape = f"{classes} classes" if classes else "16 a class"
        name = f"BatchAllTripletLoss, {average}, {shape}"
        cases += at_sizes(name, sizes, Contestant("lossframe", mine), Contestant(PML, peer, largest), CDIST)
    return cases


def against_cdist(sizes: list[int], name: str, **options: Any) -> list[Case]:
    """Return one of our losses against the distances that it needs at least."""
    mine = Contestant("lossframe", partial(ours, name=name, **options))
    shape = f"{options['classes']} classes" if "classes" in options else "16 a class"
    distance = f", {options['distance']}" if "distance" in options else ""
    return at_sizes(f"{name}{distance}, {shape}", sizes, mine, CDIST)


def contrast(sizes: list[int], name: str, per_class: int, largest: int) -> list[Case]:
    """Return a contrast over the softmax; theirs at the same temperature."""
    options: dict[str, Any] = {"name": name, "temperature": 0.1, "per_class": per_class}
    mine, peer = Contestant("lossframe", partial(ours, **options)), Contestant(PML, partial(theirs, **options), largest)
    return at_sizes(f"{name}, {per_class} a class", sizes, mine, peer, CDIST)


def cases(quick: bool) -> list[Case]:
    """Return the suite."""
    few, more = ([128, 256], [128, 256]) if quick else ([1024, 2048, 4096], [1024, 2048, 4096, 8192, 16384])
    return [
        *batch_all(more, classes=0, largest=4096),
        *batch_all(few, classes=8, largest=2048),
        *against_cdist(more, "BatchAllTripletLoss", margin=0.2),
        *against_cdist(few, "BatchAllTripletLoss", margin=0.2, classes=8),
        *against_cdist(few, "BatchHardTripletLoss"),
        *against_cdist(few, "BatchHardTripletLoss", classes=8),
        *against_cdist(few, "BatchSemiHardTripletLoss"),
        *against_cdist(few, "BatchSemiHardTripletLoss", classes=8),
        *against_cdist(few, "BatchAllTripletLoss", margin=0.2, distance="euclidean"),
        *against_cdist(few, "ContrastiveLoss"),
        *contrast([128] if quick else [256, 512, *few], "NTXentLoss", per_class=2, largest=512),
        *contrast([128] if quick else [256, 512, *few], "NTXentLoss", per_class=16, largest=512),
        *contrast(few, "SupConLoss", per_class=16, largest=4096),
    ]
