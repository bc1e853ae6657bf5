"""What newcomers pass to losses on classes and embeddings is read, or refused with a remedy that works when typed."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lossframe import InputError, Loss, losses
from lossframe.losses.metric_learning import MetricLearning

N, C, D = 6, 3, 4
LABELS = torch.arange(N) % C
SECOND = {
    "ContrastiveLoss", "NTXentLoss", "SupConLoss", "BatchAllTripletLoss", "BatchHardTripletLoss",
    "BatchSemiHardTripletLoss",
}  # fmt: skip


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def refused(criterion: Loss, *inputs: Tensor) -> str:
    with pytest.raises(InputError) as error:
        criterion(*inputs)
    return str(error.value)


def typed(remedy: str, **names: Any) -> Any:
    """Evaluate a remedy as a user would type it."""
    return eval(remedy, {"torch": torch, **names})


@pytest.mark.parametrize("name", sorted(SECOND))
def test_second_view_in_place_of_labels_is_answered_with_views_or_stacking(name: str) -> None:
    criterion, first, second = getattr(losses, name)(), normal(N, D), normal(N, D).flip(0)
    message = refused(criterion, first, second)
    assert f"wanted integer labels [{N}]" in message
    assert ".long()" not in message
    stacked = typed("torch.cat([first, second])", first=first, second=second)
    labels = typed(message[message.index("torch.arange") :])
    assert "stack both as torch.cat([first, second])" in message
    value = criterion(stacked, labels)
    assert value.isfinite()
    if "views" in criterion.reads:
        assert "pass the second view of each sample as views=..." in message
        torch.testing.assert_close(criterion(first, views=second), value)


def test_every_loss_on_embeddings_and_labels_is_among_these() -> None:
    found = {name for name in losses.__all__ if issubclass(getattr(losses, name), MetricLearning)}
    assert found == SECOND


@pytest.mark.parametrize("name", sorted(SECOND))
def test_several_views_of_each_sample_are_answered_with_flatten(name: str) -> None:
    criterion, embeddings = getattr(losses, name)(), normal(N, 2, D)
    message = refused(criterion, embeddings, LABELS)
    assert f"wanted embeddings [N, D], found shape [{N}, 2, {D}]" in message
    rows, labels = message.rpartition(": ")[2].split(" with ")
    value = criterion(typed(rows, embeddings=embeddings), typed(labels, labels=LABELS))
    torch.testing.assert_close(value, criterion(embeddings.transpose(0, 1).reshape(-1, D), LABELS.repeat(2)))


def test_one_hot_labels_of_embeddings_are_answered_with_argmax() -> None:
    for name in sorted(SECOND):
        message = refused(getattr(losses, name)(), normal(N, D), F.one_hot(LABELS, C))
        assert typed(message.rpartition(" are ")[2], labels=F.one_hot(LABELS, C)).equal(LABELS)


SCORED: dict[str, Loss] = {
    "cross_entropy": losses.CrossEntropyLoss(),
    "focal": losses.FocalLoss(),
    "dice": losses.DiceLoss(),
    "accuracy": losses.CategoricalAccuracy(),
    "probabilities": losses.CategoricalCrossEntropyLoss(normalize=True),
}
WRONG: dict[str, tuple[Tensor, str]] = {
    "[N, 1, H, W]": (LABELS.reshape(N, 1, 1, 1).expand(N, 1, 2, 2), "target.squeeze(1)"),
    "one-hot integers": (F.one_hot(LABELS.reshape(N, 1, 1).expand(N, 2, 2), C).movedim(-1, 1), "target.argmax(1)"),
    "one-hot integers as probabilities": (
        F.one_hot(LABELS.reshape(N, 1, 1).expand(N, 2, 2), C).movedim(-1, 1),
        "target.float()",
    ),
    "floating indices": (LABELS.reshape(N, 1, 1).expand(N, 2, 2).float(), "target.long()"),
}


@pytest.mark.parametrize("name", SCORED)
@pytest.mark.parametrize("wrong", WRONG)
def test_target_of_another_form_is_answered_with_its_conversion(name: str, wrong: str) -> None:
    criterion, (target, remedy) = SCORED[name], WRONG[wrong]
    scores = normal(N, C, 2, 2).abs()
    assert remedy in refused(criterion, scores, target)
    right = LABELS.reshape(N, 1, 1).expand(N, 2, 2)
    torch.testing.assert_close(criterion(scores, typed(remedy, target=target)), criterion(scores, right))


@pytest.mark.parametrize("name", SCORED)
def test_scores_with_classes_last_are_answered_with_movedim(name: str) -> None:
    scores, target = normal(N, 5, C).abs(), LABELS.reshape(N, 1).expand(N, 5)
    message = refused(SCORED[name], scores, target)
    moved = typed(message.rpartition(": ")[2], logits=scores, probabilities=scores)
    assert SCORED[name](moved, target).isfinite()


def test_scores_of_one_channel_are_answered_with_what_reads_them() -> None:
    message = refused(losses.DiceLoss(), normal(N, 1, 2, 2), torch.zeros(N, 2, 2, dtype=torch.long))
    criterion = typed(message[message.index("DiceLoss(activation") :].partition(" read")[0], **vars(losses))
    assert criterion(normal(N, 1, 2, 2), torch.zeros(N, 2, 2, dtype=torch.long)).isfinite()


@pytest.mark.parametrize("shape", [(N, 2, 2), (N, 1, 2, 2)])
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float32])
def test_dice_of_one_channel_reads_targets_of_any_dtype(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    logits, target = normal(N, 1, 2, 2), (normal(*shape) > 0).to(dtype)
    p, y = logits.sigmoid().reshape(N, -1), target.reshape(N, -1).double()
    wanted = 1 - (2 * (p * y).sum(1) + 1) / (p.sum(1) + y.sum(1) + 1)
    for batch, values in ((False, wanted), (True, 1 - (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1))):
        torch.testing.assert_close(losses.DiceLoss(activation="sigmoid", batch=batch)(logits, target), values.mean())
        of_p = losses.DiceLoss(activation=None, batch=batch)(logits.sigmoid(), target)
        torch.testing.assert_close(of_p, values.mean())


def test_dice_of_channels_reads_labels_and_class_indices() -> None:
    criterion, logits, target = (
        losses.DiceLoss(activation="sigmoid"),
        normal(N, C, 5),
        LABELS.reshape(N, 1).repeat(1, 5),
    )
    one_hot = F.one_hot(target, C).movedim(-1, 1)
    for labels in (one_hot, one_hot.bool(), one_hot.float()):
        torch.testing.assert_close(criterion(logits, labels), criterion(logits, target))


@pytest.mark.parametrize(("activation", "message"), [("sigmoyd", "Did you mean 'sigmoid'"), ("tanh", "'softmax'")])
def test_unknown_activation_lists_the_known_ones(activation: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        losses.DiceLoss(activation=activation)


def test_dice_of_logits_as_probabilities_is_an_input_error() -> None:
    with pytest.raises(InputError, match=r"wanted logits within \[0, 1\].*activation='sigmoid' read"):
        losses.DiceLoss(activation=None)(3 * normal(N, C, 5), LABELS.reshape(N, 1).repeat(1, 5))


def test_supcon_of_views_alone_is_nt_xent() -> None:
    first, second = normal(N, D), normal(N, D).flip(0)
    value = losses.SupConLoss(temperature=0.5)(first, views=second)
    torch.testing.assert_close(value, losses.NTXentLoss(temperature=0.5)(first, views=second))
    torch.testing.assert_close(value, losses.SupConLoss(temperature=0.5)(first, torch.arange(N), second))
    assert "found neither" in refused(losses.SupConLoss(), first)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("sum_over_batch_size", "element_mean"), ("SUM_OVER_BATCH_SIZE", "element_mean"), ("batchmean", "batch_mean"),
        ("SUM_BY_NONZERO_WEIGHTS", "mean"), ("mean_with_sample_weight", "weighted_mean"), (None, "none"),
        ("elementwise_mean", "element_mean"),
    ],
)  # fmt: skip
def test_reduction_of_another_library_is_answered_with_its_name_here(theirs: Any, ours: str) -> None:
    with pytest.raises(InputError, match=f"Did you mean '{ours}'"):
        losses.MSELoss(reduction=theirs)
