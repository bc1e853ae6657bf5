"""The value kept for a sample depends on the sample and its partners, and not on what else the batch holds."""

from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from lossframe.losses import (
    BatchAllTripletLoss,
    BatchHardTripletLoss,
    BatchSemiHardTripletLoss,
    CenterLoss,
    ContrastiveLoss,
    NTXentLoss,
    PullAwayLoss,
    ROCAUCLoss,
    SupConLoss,
)
from lossframe.losses.base.loss import Loss
from lossframe.losses.base.per_sample import PerSample
from lossframe.losses.base.reduction import Reduction
from lossframe.losses.catalogue import entries

Inputs = dict[str, Tensor]
RNG = torch.Generator().manual_seed(0)
OWN = 12
NEAR = 0.3 * torch.randn(OWN, 4, generator=RNG)
LABELS = torch.arange(OWN) % 3
FAR = torch.cat([NEAR, 1e3 + torch.randn(40, 4, generator=RNG), -1e3 + torch.randn(9, 4, generator=RNG)])
FAR_LABELS = torch.cat([LABELS, torch.arange(40) % 7 + 10, torch.full((9,), 30)])
SCORES = torch.randn(OWN, generator=RNG)
POSITIVE = (torch.arange(OWN) % 2).float()

BESIDE: dict[str, tuple[Callable[..., Loss], Inputs, Inputs]] = {
    "triplets": (
        BatchAllTripletLoss,
        {"embeddings": NEAR, "labels": LABELS},
        {"embeddings": FAR, "labels": FAR_LABELS},
    ),
    "hardest triplets": (
        BatchHardTripletLoss,
        {"embeddings": NEAR, "labels": LABELS},
        {"embeddings": FAR, "labels": FAR_LABELS},
    ),
    "center": (
        lambda **options: CenterLoss(40, 4, **options),
        {"features": NEAR, "labels": LABELS},
        {"features": FAR, "labels": FAR_LABELS},
    ),
    "ranking": (  # further positives are no partners of positives
        ROCAUCLoss,
        {"scores": SCORES, "target": POSITIVE},
        {"scores": torch.cat([SCORES, SCORES + 1]), "target": torch.cat([POSITIVE, torch.ones(OWN)])},
    ),
}  # fmt: skip
"""Losses, a batch, and the batch with samples that are no partners of its own: (loss, own, more)."""

TWICE: dict[str, tuple[Callable[..., Loss], Inputs]] = {
    "triplets": (lambda **o: BatchAllTripletLoss(average="all", **o), {"embeddings": NEAR, "labels": LABELS}),
    "triplets of the nonzero": (BatchAllTripletLoss, {"embeddings": NEAR, "labels": LABELS}),
    "semi-hard triplets": (BatchSemiHardTripletLoss, {"embeddings": NEAR, "labels": LABELS}),
    "contrastive": (ContrastiveLoss, {"embeddings": NEAR, "labels": LABELS}),
    "supcon": (SupConLoss, {"embeddings": NEAR, "labels": LABELS}),
    "ntxent": (NTXentLoss, {"embeddings": NEAR, "labels": LABELS}),
    "pull away": (PullAwayLoss, {"embeddings": NEAR}),
}
"""Losses whose samples are partners of all others, and of one average: (loss, inputs)."""


def kept(loss: Loss, inputs: Inputs) -> Tensor:
    """Return the values that a loss keeps for the samples of a batch."""
    loss.samples = PerSample()
    loss(**inputs)
    assert loss.samples.values is not None
    return loss.samples.values[:OWN]


@pytest.mark.parametrize("reduction", get_args(Reduction))
@pytest.mark.parametrize("case", BESIDE)
def test_samples_beside_change_no_kept_value(case: str, reduction: str) -> None:
    make, own, more = BESIDE[case]
    wanted = kept(make(reduction=reduction), own)
    assert wanted.unique().numel() > 2
    torch.testing.assert_close(kept(make(reduction=reduction), more), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reduction", get_args(Reduction))
@pytest.mark.parametrize("case", TWICE)
def test_kept_value_is_the_mean_over_partners_whatever_the_reduction(case: str, reduction: str) -> None:
    make, own = TWICE[case]
    torch.testing.assert_close(kept(make(reduction=reduction), own), kept(make(), own), check_dtype=False)


def test_every_relational_loss_with_values_per_sample_is_tried() -> None:
    tried: set[Any] = {type(make()) for make, *_ in (*BESIDE.values(), *TWICE.values())}
    assert {one.loss for one in entries() if one.loss.relational and one.loss.per_sample and one.loss.reads} <= tried
