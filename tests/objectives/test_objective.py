"""`Objective` evaluates named terms of one frame and adds them up."""

import pytest
import torch
from torch import nn

from lossframe import Objective
from lossframe.losses import L1L2Penalty, MSELoss


def test_terms_read_entries_by_name_and_add_up() -> None:
    objective = Objective(
        {"left": MSELoss(), "right": MSELoss(), "decay": L1L2Penalty(l2=1.0)},
        weights={"right": 10.0},
        inputs={"right": {"prediction": "other", "weight": "mask"}},
    )
    model = nn.Linear(1, 1, bias=False)
    objective.bind(model)
    frame = {"prediction": torch.ones(2), "target": torch.zeros(2), "other": torch.full((2,), 2.0)}
    frame["mask"] = torch.tensor([1.0, 0.0])
    terms = objective.terms(frame)
    assert list(terms) == ["left", "right", "decay"]
    assert (terms["left"].item(), terms["right"].item()) == (1, 40)
    assert terms["decay"].item() == pytest.approx(model.weight.item() ** 2 / 2)
    assert list(objective.terms(frame, penalties=False)) == ["left", "right"]
    assert objective(frame).item() == pytest.approx(41 + terms["decay"].item())
    assert objective.reads == {"prediction", "target", "other", "mask"}
    assert objective.moments()["weighted/right"].mean == 40
