"""Targets equal to `ignore_index` count in no loss on classes: as if they were left out, whatever their scores are."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pool import Pool
from torch import Tensor, nn

from lossframe import InputError, Loss, losses

N, C, PIXELS = 4, 3, 6
IGNORED = torch.zeros(N, PIXELS, dtype=torch.bool)
IGNORED[:, 1:3] = True
MADE: dict[str, Callable[..., Loss]] = {
    "cross_entropy": losses.CrossEntropyLoss,
    "cross_entropy smoothed": lambda **o: losses.CrossEntropyLoss(0.1, [1.0, 2.0, 0.5], **o),
    "focal": losses.FocalLoss,
    "focal alpha": lambda **o: losses.FocalLoss(0.5, [1.0, 2.0, 0.5], **o),
    "probabilities": losses.CategoricalCrossEntropyLoss,
    "accuracy": losses.CategoricalAccuracy,
    "dice": losses.DiceLoss,
    "dice batch": lambda **o: losses.DiceLoss(batch=True, **o),
    "dice sigmoid": lambda **o: losses.DiceLoss(activation="sigmoid", **o),
    "dice probabilities": lambda **o: losses.DiceLoss(activation=None, **o),
}
every_loss = pytest.mark.parametrize("name", MADE)


def batch(name: str, ignore_index: int = -100) -> tuple[Tensor, Tensor]:
    """Return scores or probabilities, and class indices of which some are ignored."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(N, C, PIXELS, generator=generator, dtype=torch.float64)
    target = torch.randint(0, C, (N, PIXELS), generator=generator)
    if ignore_index in range(C):
        target = torch.where(target == ignore_index, (ignore_index + 1) % C, target)
    return scores.softmax(1) if "probabilities" in name else scores, target.masked_fill(IGNORED, ignore_index)


def gradient(value: Tensor, scores: Tensor) -> Tensor:
    """Return the gradient, 0 for a value that has none."""
    return torch.autograd.grad(value, scores)[0] if value.requires_grad else torch.zeros_like(scores)


@every_loss
@pytest.mark.parametrize("ignore_index", [-100, -1, 255, 1])
@pytest.mark.parametrize("reduction", ["mean", "sum", "weighted_mean"])
def test_ignored_pixels_equal_pixels_left_out(name: str, ignore_index: int, reduction: str) -> None:
    scores, target = batch(name, ignore_index)
    scores.requires_grad_()
    kept = ~IGNORED[0]
    found = MADE[name](ignore_index=ignore_index, reduction=reduction)(scores, target)
    expected = MADE[name](reduction=reduction)(scores[..., kept], target[:, kept])
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient(found, scores), gradient(expected, scores))


@every_loss
@pytest.mark.parametrize("score", [torch.nan, torch.inf, -torch.inf])
def test_nonfinite_scores_of_ignored_pixels_change_nothing(name: str, score: float) -> None:
    clean, target = batch(name)
    spoilt = clean.masked_fill(IGNORED.unsqueeze(1), score).requires_grad_()
    clean.requires_grad_()
    found, expected = (MADE[name]()(scores, target) for scores in (spoilt, clean))
    torch.testing.assert_close(found, expected)
    of_spoilt = gradient(found, spoilt)
    torch.testing.assert_close(of_spoilt, gradient(expected, clean))
    assert (of_spoilt.movedim(1, -1)[IGNORED] == 0).all()


@every_loss
def test_sample_of_ignored_pixels_alone_does_not_count(name: str) -> None:
    scores, target = batch(name)
    target[0] = -100
    found, expected = MADE[name]()(scores, target), MADE[name]()(scores[1:], target[1:])
    torch.testing.assert_close(found, expected)


@every_loss
def test_batch_of_ignored_pixels_alone_gives_a_zero_with_gradient_zero(name: str) -> None:
    scores, target = batch(name)
    scores.requires_grad_()
    value = MADE[name]()(scores, torch.full_like(target, -100))
    assert value.item() == 0
    assert (gradient(value, scores) == 0).all()


@every_loss
def test_index_out_of_range_is_answered_with_ignore_index(name: str) -> None:
    scores, target = batch(name, 255)
    with pytest.raises(InputError, match=r"from 0 to 2 \(3 classes\), found 255; ignore_index=255 leaves it out"):
        MADE[name]()(scores, target)


@pytest.mark.parametrize("target", ["labels", "one channel"])
def test_ignored_labels_of_channels_equal_pixels_left_out(target: str) -> None:
    scores, channels = batch("dice")[0], C if target == "labels" else 1
    labels = torch.randint(0, 2, (N, channels, PIXELS))
    scores, ignored = scores[:, :channels].contiguous(), IGNORED.unsqueeze(1)
    criterion = losses.DiceLoss(activation="sigmoid", ignore_index=9)
    found = criterion(scores, labels.masked_fill(ignored, 9))
    torch.testing.assert_close(found, criterion(scores[..., ~IGNORED[0]], labels[..., ~IGNORED[0]]))
    one = labels.clone()
    one[0, 0, 0] = 9  # of this label alone
    other = scores.clone()
    other[0, 0, 0] = -torch.inf
    torch.testing.assert_close(criterion(scores, one), criterion(other, labels.masked_fill(one == 9, 0)))


def value_and_gradient(rank: int, name: str, sizes: list[int]) -> tuple[Tensor, Tensor]:
    """Evaluate a rank's shard of a batch in which all of the first sample is ignored."""
    scores, target = batch(name)
    target[0] = -100
    mine = slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))
    shard = scores[mine].clone().requires_grad_()
    value = MADE[name](reduction="mean")(shard, target[mine])
    return value.detach(), gradient(value, shard) / len(sizes)


@pytest.mark.parametrize("sizes", [[1, 3], [3, 1], [4, 0]])
def test_ranks_ignore_as_one_process(pool: Pool, sizes: list[int]) -> None:
    for name in MADE:
        expected, whole = value_and_gradient(0, name, [N])
        results: Any = pool.run(2, value_and_gradient, name, sizes)
        for value, _ in results:
            torch.testing.assert_close(value, expected)
        torch.testing.assert_close(torch.cat([found for _, found in results]), whole)


def test_focal_without_focus_equals_cross_entropy_of_torch() -> None:
    scores, target = batch("focal", 255)
    wanted = nn.CrossEntropyLoss(ignore_index=255)(scores, target)
    torch.testing.assert_close(losses.FocalLoss(gamma=0, ignore_index=255)(scores, target), wanted)
