"""Properties of every loss of the catalogue, row by row of tests/table.py: values, gradients, weights, statistics."""

import copy
import io
import pickle

import numpy as np
import pytest
import torch
from batches import LOSSES, N, assert_close, batch, change, every_loss, gradients, weights
from plain_anchors import OF_ANCHORS, standing
from table import TABLE, differentiable
from torch import Tensor

from lossframe import Loss, drain
from lossframe import losses as catalogue
from lossframe.losses.base.reduction import REDUCTIONS

WITH_GRADIENT = [loss for loss in LOSSES if TABLE[loss].gradient]


def test_every_loss_has_a_row() -> None:
    missing = sorted(set(catalogue.__all__) - {loss.__name__ for loss in (*TABLE, *catalogue.WRAPPERS)})
    assert not missing, f"tests/table.py has no row for {missing}"


@pytest.mark.parametrize("loss_class", WITH_GRADIENT, ids=lambda loss_class: loss_class.__name__)
def test_gradients_equal_finite_differences_of_the_value(loss_class: type[Loss]) -> None:
    row, inputs = TABLE[loss_class], batch(loss_class, 6)
    criterion, names = row.make(loss_class).eval(), differentiable(inputs)

    def value(*tensors: Tensor) -> Tensor:
        return criterion(**{**inputs, **dict(zip(names, tensors, strict=True))})

    points = [inputs[name].requires_grad_() for name in names]
    fast = sum(point.numel() for point in points) > 100
    assert torch.autograd.gradcheck(value, points, fast_mode=fast)
    if row.smooth:
        assert torch.autograd.gradgradcheck(value, points, fast_mode=fast)


@every_loss
def test_order_of_samples_changes_no_value_or_gradient(loss_class: type[Loss]) -> None:
    row, inputs = TABLE[loss_class], batch(loss_class)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    moved = change(inputs, lambda t: t[order])
    value, of_inputs = gradients(row.make(loss_class), inputs)
    assert_close(gradients(row.make(loss_class), moved), (value, change(of_inputs, lambda t: t[order])))
    before, after = (row.make(loss_class, reduction="none")(**x) for x in (inputs, moved))
    assert_close((after, {}), (before[order] if before.ndim else before, {}))


# a second copy of a sample of a relational loss is one more partner for the others
SEPARABLE = [loss for loss in LOSSES if not loss.relational]


@pytest.mark.parametrize("loss_class", SEPARABLE, ids=lambda loss_class: loss_class.__name__)
def test_sample_of_weight_2_counts_as_two_copies(loss_class: type[Loss]) -> None:
    row, inputs = TABLE[loss_class], batch(loss_class)
    weight = torch.ones(N, dtype=torch.float64)
    weight[2] = 2
    value, of_inputs = gradients(row.make(loss_class, reduction="sum"), inputs, weight=weight)
    twice, of_twice = gradients(row.make(loss_class, reduction="sum"), change(inputs, lambda t: torch.cat([t, t[2:3]])))
    for name, gradient in of_twice.items():
        of_twice[name] = gradient[:N].index_add(0, torch.tensor([2]), gradient[N:])
    assert_close((value, of_inputs), (twice, of_twice))


@every_loss
@pytest.mark.parametrize("weighted", [False, True])
def test_reductions_divide_by_their_documented_denominators(loss_class: type[Loss], weighted: bool) -> None:
    row, inputs = TABLE[loss_class], batch(loss_class)
    w = weights(loss_class) if weighted else torch.ones(N, dtype=torch.float64)
    made = {name: row.make(loss_class, reduction=name) for name in REDUCTIONS}
    found = {name: criterion(**inputs, weight=w if weighted else None) for name, criterion in made.items()}
    kept = change(inputs, lambda t: t[w != 0]) if loss_class.relational and weighted else inputs
    criterion, values = row.make(loss_class), found.pop("none")
    every = values
    if loss_class.relational and values.ndim:
        assert (values[w == 0] == 0).all()
        values = values[w != 0]
    counts, carried = criterion.counts(**kept), criterion.carried_weight(**kept)
    w = w[w != 0] if loss_class.relational else w
    w = w.reshape(-1, *[1] * (values.ndim - 1)).expand_as(values) if values.ndim else torch.ones(())
    counts = torch.ones_like(values) if counts is None else counts.expand_as(values)
    denominators = {
        "mean": (counts * (w != 0)).sum(),
        "sum": torch.ones(()),
        "weighted_mean": (counts * w * (1 if carried is None else carried)).sum(),
        "batch_mean": torch.tensor(float(N if values.ndim else 1)),
        "element_mean": torch.tensor(float(every.numel())),
    }
    wanted = {name: values.sum() / denominator for name, denominator in denominators.items()}
    assert_close((values, found), (values, wanted))


def moments(values: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    """Return mean and standard deviation of values that stand for several each."""
    mean = np.average(values, weights=counts)
    return mean, np.average((values - mean) ** 2, weights=counts) ** 0.5


@every_loss
def test_statistics_equal_numpy_on_the_values(loss_class: type[Loss]) -> None:
    criterion, recorded, shares = TABLE[loss_class].make(loss_class, reduction="none", log_std=True), [], []
    for call, n in enumerate((9, 4, 1)):
        inputs, weight = batch(loss_class, n, seed=call), weights(loss_class, n)
        values = criterion(**inputs, weight=weight).detach()
        seen = change(inputs, lambda t, kept=weight != 0: t[kept]) if loss_class.relational else inputs
        if loss_class.relational:
            values, weight = values[weight != 0] if values.ndim else values, weight[weight != 0]
        counts = criterion.counts(**seen)
        counts = torch.ones_like(values) if counts is None else counts.expand_as(values)
        weight = weight.reshape(-1, *[1] * (values.ndim - 1)) if values.ndim else torch.ones(())
        share = (counts != 0) & (weight != 0)
        if loss_class in OF_ANCHORS:  # values are made of pairs or triplets, and anchors without any have none
            means, share = standing(criterion, seen)
            values = means * weight
        recorded.append((values / counts)[share != 0].numpy())
        shares.append(share[share != 0].double().numpy())
    numbers, counts = np.concatenate(recorded), np.concatenate(shares)
    found, (mean, std) = drain({"term": criterion})["term"]["loss"], moments(numbers, counts)
    assert [found.count, found.mean, found.std, found.min, found.max] == pytest.approx(
        [counts.sum(), mean, std, numbers.min(), numbers.max()], rel=1e-9, abs=1e-12
    )
    assert criterion.avg == {}
    criterion = TABLE[loss_class].make(loss_class)
    assert criterion(**batch(loss_class)).item() == pytest.approx(criterion.avg["loss"], rel=1e-9)


@every_loss
def test_copied_and_restored_losses_continue_alike(loss_class: type[Loss]) -> None:
    criterion = TABLE[loss_class].make(loss_class)
    criterion(**batch(loss_class))
    file = io.BytesIO()
    torch.save(criterion.state_dict(), file)
    file.seek(0)
    loaded = TABLE[loss_class].make(loss_class)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    loaded.load_statistics_state(criterion.statistics_state())
    for other in (copy.deepcopy(criterion), pickle.loads(pickle.dumps(criterion)), loaded):
        original = copy.deepcopy(criterion)
        assert other.avg == original.avg
        inputs = batch(loss_class, seed=1)
        assert torch.equal(other(**inputs), original(**inputs))
        assert other.avg == original.avg
        torch.testing.assert_close(other.state_dict(), original.state_dict(), rtol=0, atol=0)


@every_loss
def test_formula_compiles_to_one_graph(loss_class: type[Loss]) -> None:
    inputs, criterion = batch(loss_class), TABLE[loss_class].make(loss_class, record=False).eval()
    torch._dynamo.reset()
    compiled = torch.compile(criterion.loss, fullgraph=True, backend="eager")
    assert_close((compiled(**inputs), {}), (criterion.loss(**inputs), {}))


@every_loss
def test_step_never_waits_for_the_device(loss_class: type[Loss], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)  # autocast does not know the device "meta"
    monkeypatch.setattr("lossframe.losses.base.loss.CAREFUL_CALLS", 0)  # the first calls check ranges, and wait
    criterion = TABLE[loss_class].make(loss_class).to("meta")  # a device without values: reading one is an error
    inputs = change(batch(loss_class), lambda t: t.to("meta"))
    assert gradients(criterion, inputs)[0].device.type == "meta"
    if not loss_class.relational:
        assert gradients(criterion, inputs, weight=weights(loss_class).to("meta"))[0].device.type == "meta"
