"""Models of a user's own: which constructors get heads, and what is said of a model that gives the wrong entries."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from lossframe import InputError
from lossframe.models import Mlp
from lossframe.training.checks import model_contract
from lossframe.training.run import run

Configure = Callable[..., DictConfig]
STEP = (
    "trainer.max_epochs=1",
    "logger=csv",
    *(f"trainer.limit_{stage}_batches=2" for stage in ("train", "val", "test")),
)


class TwoHeads(nn.Module):
    """Classifies images and predicts their brightness; has buffers, and takes no heads."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.BatchNorm1d(width), nn.ReLU())
        self.classify, self.regress = nn.Linear(width, 10), nn.Linear(width, 1)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, batch: dict[str, Tensor]) -> Any:
        self.calls += 1
        features, brightness = self.trunk(batch["image"]), batch["image"].mean(dim=(1, 2, 3))
        return {"logits": self.classify(features), "shade": self.regress(features).squeeze(1), "brightness": brightness}


class Tensors(TwoHeads):
    def forward(self, batch: dict[str, Tensor]) -> Any:
        return super().forward(batch)["logits"]


class FewRows(TwoHeads):
    def forward(self, batch: dict[str, Tensor]) -> Any:
        return {name: entry[:5] for name, entry in super().forward(batch).items()}


class OneHead(TwoHeads):
    def forward(self, batch: dict[str, Tensor]) -> Any:
        return {"logits": super().forward(batch)["logits"]}


class Passing(Mlp):
    """Passes its options on."""

    def __init__(self, **options: Any) -> None:
        super().__init__(4, 2, **options)


def function(**options: Any) -> nn.Module:
    return nn.Linear(2, 2)


def two_terms(configure: Configure, model: type) -> DictConfig:
    config = configure("loss=[cross_entropy,mse]", "metrics=classification", *STEP)
    config.model = {"_target_": f"{model.__module__}.{model.__name__}"}
    config.inputs.mse = {"prediction": "shade", "target": "brightness"}
    return config


def test_model_with_two_heads_and_batch_norm_trains_by_its_configuration_alone(configure: Configure) -> None:
    assert run(two_terms(configure, TwoHeads)) is not None


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Tensors, r"Tensors\.forward: wanted a mapping from names to tensors, found Tensor; return"),
        (
            FewRows,
            r"term 'cross_entropy' \(CrossEntropyLoss\) reads 'logits' with 5 rows from FewRows, but the batch has",
        ),
        (
            OneHead,
            r"term 'mse' \(MSELoss\) reads 'shade', 'brightness', but OneHead gave 'logits', and the batch 'image'",
        ),
    ],
)
def test_first_batch_names_term_entry_and_what_a_model_gave(configure: Configure, model: type, message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(two_terms(configure, model))


@pytest.mark.parametrize(
    ("target", "options", "takes"),
    [(TwoHeads, {}, False), (Mlp, {}, True), (Passing, {}, True), (function, {}, False), (Mlp, {"heads": []}, False)],
)
def test_heads_are_passed_to_constructors_that_take_them(target: Any, options: dict[str, Any], takes: bool) -> None:
    config = OmegaConf.create({"_target_": f"{target.__module__}.{target.__name__}", **options})
    assert model_contract.takes_heads(config) == takes


def test_target_that_makes_no_module_is_an_input_error() -> None:
    with pytest.raises(InputError, match=r"model: wanted a torch\.nn\.Module, found dict"):
        model_contract.build(OmegaConf.create({"_target_": "builtins.dict"}), ["logits"])
