"""A loaded `state_dict` changes no statistics; a loaded `statistics_state` gives all of them, once."""

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pool import Pool
from torch import nn

from lossframe import InputError, NativeLoss, Objective, drain
from lossframe.losses import BatchAllTripletLoss, CenterLoss, CrossEntropyLoss, MSELoss
from lossframe.statistics.recorder import Recorder

MAKERS: dict[str, Callable[[], Recorder]] = {
    "mse": MSELoss,
    "cross_entropy": lambda: CrossEntropyLoss(log_quantiles=True),
    "center": lambda: CenterLoss(2, 2),
    "native": lambda: NativeLoss(nn.L1Loss()),
    "objective": lambda: Objective({"mse": MSELoss(), "native": NativeLoss(MSELoss())}),
}


def in_mid_window(make: Callable[[], Recorder], value: float) -> nn.ModuleDict:
    module = nn.ModuleDict({"layer": nn.Linear(2, 2), "criterion": make()})
    for recorder in recorders(module):
        recorder.log("x", torch.full((3,), value))
    return module


def recorders(module: nn.Module) -> list[Recorder]:
    return [each for each in module.modules() if isinstance(each, Recorder)]


def averages(module: nn.Module) -> list[dict[str, float]]:
    return [recorder.avg for recorder in recorders(module)]


def reloaded(state: Any) -> Any:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("kind", MAKERS)
def test_weights_loaded_in_mid_window_leave_the_statistics_as_they_are(kind: str, strict: bool) -> None:
    module, best = in_mid_window(MAKERS[kind], 1.0), in_mid_window(MAKERS[kind], 9.0)
    before = averages(module)
    module.load_state_dict(reloaded(best.state_dict()), strict=strict)  # best weights, a lookahead, an EMA
    assert averages(module) == before
    module.load_state_dict(reloaded(module.state_dict()), strict=strict)  # an earlier state of its own
    assert averages(module) == before
    assert [moments.count for each in recorders(module) for moments in each.moments().values()] == [3] * len(before)
    fresh = nn.ModuleDict({"layer": nn.Linear(2, 2), "criterion": MAKERS[kind]()})
    fresh.load_state_dict(reloaded(best.state_dict()), strict=strict)  # for inference
    assert averages(fresh) == [{}] * len(before)
    assert torch.equal(fresh["layer"].weight, best["layer"].weight)  # type: ignore[arg-type]


@pytest.mark.parametrize("old", [nn.MSELoss, nn.Identity])
def test_loss_takes_the_place_of_torchs_criterion_in_a_checkpoint(old: Callable[[], nn.Module]) -> None:
    saved = nn.ModuleDict({"layer": nn.Linear(2, 2), "criterion": old()}).state_dict()
    module = nn.ModuleDict({"layer": nn.Linear(2, 2), "criterion": MSELoss()})
    assert module.load_state_dict(saved, strict=True) == ([], [])
    assert list(module.state_dict()) == list(saved) == ["layer.weight", "layer.bias"]


@pytest.mark.parametrize("times", [1, 2])
def test_saved_statistics_go_on_in_another_process(times: int) -> None:
    criterion, other = MSELoss(log_quantiles=True), MSELoss(log_quantiles=True)
    criterion(torch.tensor([1.0, 2.0]), torch.zeros(2))
    criterion.log("x", torch.tensor(3.0))
    other(torch.full((5,), 7.0), torch.zeros(5))
    for _ in range(times):
        other.load_statistics_state(reloaded(criterion.statistics_state()))
    assert other.avg == criterion.avg == {"loss": 2.5, "x": 3.0}
    for each in (criterion, other):
        each(torch.tensor([3.0]), torch.zeros(1))
    assert str(other.moments()) == str(criterion.moments())
    assert copy.deepcopy(other).avg == other.avg


def saved_and_loaded(rank: int) -> Any:
    separable, relational = MSELoss(), BatchAllTripletLoss()
    embeddings, labels = torch.arange(4.0)[:, None] * (1 + rank), torch.tensor([0, 0, 1, 1])
    separable(torch.full((4,), 1.0 + rank), torch.zeros(4))
    relational(embeddings, labels)
    first = {"separable": MSELoss(), "relational": BatchAllTripletLoss()}
    for loss, state in zip(first.values(), [separable.statistics_state(), relational.statistics_state()], strict=True):
        loss.load_statistics_state(reloaded(state))
    with pytest.raises(InputError, match=rf"wanted the statistics of rank {rank} of 2, found those of rank {1 - rank}"):
        separable.load_statistics_state({**separable.statistics_state(), "rank": 1 - rank})
    wanted = drain({"separable": separable, "relational": relational})
    found = drain(first)
    return [[named["loss"].numbers for named in each.values()] for each in (wanted, found)]


def test_each_rank_restores_its_own_statistics_whole(pool: Pool) -> None:
    for wanted, found in pool.run(2, saved_and_loaded):
        assert found == wanted
        assert [numbers[0] for numbers in found] == [8, 8]
        assert found[0][1] == 2.5
