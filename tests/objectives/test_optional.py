"""Optional terms: left out of batches without what they read, on one rank and on several."""

from typing import Any

import pytest
import torch
import torch.distributed as dist
from methods import Net, batch, method
from pool import Pool
from torch import Tensor

from lossframe import InputError, Objective
from lossframe.losses import AuxiliaryLoss, BatchAllTripletLoss, MSELoss

INPUTS: dict[str, dict[str, str | None]] = {
    "mse": {"prediction": "first", "target": "one"},
    "rare": {"prediction": "second", "target": "other"},
    "triplet": {"embeddings": "features"},
    "number": {"value": "size"},
}


def made(weighting: Any = None, optional: Any = ("rare", "triplet", "number")) -> Objective:
    losses = {
        "mse": MSELoss(),
        "rare": MSELoss(),
        "triplet": BatchAllTripletLoss(margin=1.0),
        "number": AuxiliaryLoss(),
    }
    return Objective(losses, {"rare": 2.0}, INPUTS, weighting, optional=optional, balance_at="features").double()


def without(frame: dict[str, Tensor], *names: str) -> dict[str, Tensor]:
    return {name: entry for name, entry in frame.items() if name not in names}


def test_optional_term_counts_only_the_batches_where_it_is_there() -> None:
    net, criterion = Net(), made()
    frames = [net(batch(step)) for step in range(3)]
    sized = [{**frame, "size": frame["features"].square().mean()} for frame in frames]
    total = criterion(sized[0])
    values = {name: loss.avg["loss"] for name, loss in criterion.named_losses()}
    wanted = sum(criterion.weights[name] * value for name, value in values.items())
    assert total.item() == pytest.approx(wanted)
    criterion(without(sized[1], "other"))
    criterion({**without(sized[2], "labels"), "other": None})
    moments = criterion.moments()
    assert moments["weighted/rare"].mean == pytest.approx(2 * values["rare"])
    assert moments["weighted/mse"].mean != pytest.approx(values["mse"])
    means = [moments[f"weighted/{name}"].mean for name in INPUTS]
    assert moments["total"].mean == pytest.approx(sum(means))
    assert criterion({"first": sized[0]["first"], "one": sized[0]["one"]}).item() == pytest.approx(values["mse"])


def test_absent_term_gives_a_gradient_of_0_to_the_parameters_behind_it_and_is_no_part_of_a_balance() -> None:
    net, criterion = Net(), made(method("upgrad"))
    criterion(without(net(batch(0)), "other", "labels")).backward()
    assert net.heads.weight.grad is not None
    assert net.heads.weight.grad[1].tolist() == [0, 0, 0]
    assert "weight/rare" not in criterion.moments()


def test_entry_that_a_term_which_is_not_optional_lacks_is_a_mistake() -> None:
    frame = without(Net()(batch(0)), "one")
    with pytest.raises(InputError, match="MSELoss reads 'one' "):
        made()(frame)
    for optional, message in (("rare", r"optional=rare: wanted a list of terms, as optional=\[mse\]"),
                              (["rere"], r"optional=\[rere\]: the terms are 'mse', 'rare'")):  # fmt: skip
        with pytest.raises(InputError, match=message):
            made(optional=optional)


def on_ranks(rank: int, lacking: list[int], shares: list[int]) -> tuple[float, dict[str, Any], list[float]]:
    """Call an objective on this rank's rows, where some ranks lack what optional terms read."""
    net, criterion = Net(), made(method("balancer"))
    mine = slice(sum(shares[:rank]), sum(shares[: rank + 1]))
    frame = net({name: rows[mine] for name, rows in batch(0).items()})
    frame["size"] = frame["features"].square().mean() if shares[rank] else frame["features"].sum()
    if rank in lacking:
        frame = without(frame, "other", "labels", "size")
    total = criterion(frame)
    total.backward()
    gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in net.parameters()]
    for gradient in gradients:
        dist.all_reduce(gradient.div_(len(shares)))
    weights = {n: criterion.moments()[f"weight/{n}"].mean for n in INPUTS if f"weight/{n}" in criterion.moments()}
    return total.item(), weights, torch.cat([g.flatten() for g in gradients]).tolist()


def of_the_rest(rows: int) -> tuple[float, dict[str, Any], list[float]]:
    """Compute on one rank what `on_ranks` gives if the last ranks lack the entries: only the first rows have them."""
    net, criterion = Net(), made(method("balancer"))
    frame = net(batch(0))
    mask = (torch.arange(9) < rows).double()
    some = {"other": frame["other"], "second": frame["second"]}
    losses = {
        "mse": MSELoss(),
        "rare": MSELoss(),
        "triplet": BatchAllTripletLoss(margin=1.0),
        "number": AuxiliaryLoss(),
    }
    inputs = {
        **INPUTS,
        "rare": {**INPUTS["rare"], "weight": "mask"},
        "triplet": {**INPUTS["triplet"], "weight": "mask"},
    }
    criterion = Objective(losses, {"rare": 2.0}, inputs, method("balancer"), balance_at="features").double()
    total = criterion({**frame, **some, "mask": mask, "size": frame["features"][:rows].square().mean()})
    total.backward()
    weights = {n: criterion.moments()[f"weight/{n}"].mean for n in INPUTS}
    return total.item(), weights, torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None]).tolist()


def test_rank_without_an_optional_term_takes_part_without_a_sample(pool: Pool) -> None:
    for shares, lacking in (([5, 4], [1]), ([5, 2, 2], [1, 2]), ([5, 0, 4], [2])):
        total, weights, gradients = of_the_rest(5)
        for found in pool.run(len(shares), on_ranks, lacking, shares):
            assert found[0] == pytest.approx(total, rel=1e-9)
            assert found[1] == pytest.approx(weights, rel=1e-9)
            assert found[2] == pytest.approx(gradients, rel=1e-9, abs=1e-12)
    everywhere = list(pool.run(2, on_ranks, [0, 1], [5, 4]))
    assert all(set(found[1]) == {"mse"} for found in everywhere)
    assert everywhere[0] == everywhere[1]
