"""Labels and targets of every integer dtype, and of bool, give every loss the value and gradients of int64 ones."""

import pytest
import torch
from batches import N, batch, gradients
from table import TABLE, Inputs

from lossframe import Loss
from lossframe.losses import CrossEntropyLoss

INTEGERS = ("uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64")


@pytest.fixture(autouse=True)
def _one_thread(threads: None) -> None:
    torch.set_num_threads(1)  # batches are small


def labelled(loss_class: type[Loss]) -> str | None:
    """Name the input that labels samples, or is a target."""
    return next((name for name in ("labels", "target") if name in loss_class.reads), None)


LABELLED = [loss for loss in TABLE if labelled(loss)]


def yes_or_no(loss_class: type[Loss]) -> Inputs:
    """Return a batch whose labels are 0 and 1, in int64: numbers that every dtype holds."""
    inputs, name = batch(loss_class), str(labelled(loss_class))
    inputs.pop("views", None)  # they take the place of labels
    labels = inputs[name] if name in inputs else torch.arange(N)
    return {**inputs, name: (labels > 0).long() if labels.is_floating_point() else labels % 2}


CASES = [pytest.param(loss, dtype, id=f"{loss.__name__}-{dtype}") for loss in LABELLED for dtype in (*INTEGERS, "bool")]


@pytest.mark.parametrize(("loss_class", "dtype"), CASES)
def test_labels_of_every_dtype_give_the_results_of_int64(loss_class: type[Loss], dtype: str) -> None:
    inputs, name = yes_or_no(loss_class), str(labelled(loss_class))
    criterion, other = (TABLE[loss_class].make(loss_class, reduction="sum") for _ in range(2))
    wanted = gradients(criterion, inputs)
    found = gradients(other, {**inputs, name: inputs[name].to(getattr(torch, dtype))})
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    torch.testing.assert_close(other.state_dict(), criterion.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_label_of_a_narrow_dtype_never_equals_the_ignored_index(dtype: str) -> None:
    logits = torch.randn(2, 200, generator=torch.Generator().manual_seed(0))
    target = torch.tensor([100, 156 if dtype == "uint8" else 101])  # 156 is -100 in 8 bits
    wanted = CrossEntropyLoss(reduction="none")(logits, target)
    assert torch.equal(CrossEntropyLoss(reduction="none")(logits, target.to(getattr(torch, dtype))), wanted)
