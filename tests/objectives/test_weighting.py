"""Weightings: fixed ones in checkpoints, and one that is written outside of lossframe."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from curves import read
from omegaconf import DictConfig
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.utils.data import DataLoader
from trainers import tiny_trainer

from lossframe import InputError, LossMonitor, Objective
from lossframe.losses import L1Loss, MSELoss
from lossframe.objectives.weighting import Fixed, Weighting
from lossframe.training.run import run

FRAME = {"prediction": torch.tensor([1.0, 3.0]), "target": torch.zeros(2)}


class InverseMean(Weighting):
    """Weighs each term by 1 over its running mean, which is a buffer."""

    def __init__(self, configured: Mapping[str, float], momentum: float = 0.5) -> None:
        super().__init__(configured)
        self.momentum = momentum
        self.register_buffer("means", torch.ones(len(configured)))

    def weights(self, terms: Mapping[str, Tensor]) -> Mapping[str, Tensor | float]:
        if self.training:
            self.means = self.means.lerp(torch.stack(list(terms.values())).detach(), 1 - self.momentum)
        return {name: self.configured[name] / mean for name, mean in zip(terms, self.means.unbind(), strict=True)}


class GeometricMean(Weighting):
    """The total is no weighted sum: it is the geometric mean of the terms."""

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        return torch.stack(list(terms.values())).log().mean().exp()


def objective(weighting: type[Weighting] | None = None) -> Objective:
    return Objective({"mse": MSELoss(), "l1": L1Loss()}, {"l1": 2.0}, weighting=weighting)


def test_weighting_of_ones_own_weighs_the_terms_and_is_recorded() -> None:
    criterion = objective(InverseMean)
    assert criterion(FRAME).item() == pytest.approx(5 / 3 + 2 * 2 / 1.5)
    assert criterion.moments()["weight/mse"].mean == pytest.approx(1 / 3)
    assert criterion.moments()["weighted/l1"].mean == pytest.approx(4 / 1.5)


def test_weight_of_a_total_that_is_no_sum_is_its_derivative() -> None:
    criterion = objective(GeometricMean)
    prediction = FRAME["prediction"].clone().requires_grad_()
    total = criterion({**FRAME, "prediction": prediction})
    assert total.item() == pytest.approx(10**0.5)
    assert criterion.moments()["weight/mse"].mean == pytest.approx(0.5 * 10**0.5 / 5)
    (found,) = torch.autograd.grad(total, prediction)
    slopes = [criterion.moments()[f"weight/{name}"].mean for name in ("mse", "l1")]
    wanted = slopes[0] * FRAME["prediction"] + slopes[1] * 0.5
    assert torch.allclose(found, wanted)


def test_weighting_without_a_rule_is_refused() -> None:
    with pytest.raises(TypeError, match=r"wants a method weights\(terms\) or total\(terms\)"):
        type("Nothing", (Weighting,), {})


def test_fixed_weight_that_was_changed_is_restored_from_a_checkpoint() -> None:
    saved, restored = objective(), objective()
    saved.weights["l1"] = 0.5  # type: ignore[index]
    restored.load_state_dict(saved.state_dict())
    assert dict(restored.weights) == {"mse": 1.0, "l1": 0.5}
    assert restored(FRAME) == saved(FRAME) == 6


def test_weight_that_is_configured_otherwise_is_not_restored() -> None:
    saved = objective()
    saved.weights["l1"] = 0.5  # type: ignore[index]
    configured = Objective({"mse": MSELoss(), "l1": L1Loss()}, {"l1": 3.0})
    configured.load_state_dict(saved.state_dict())
    assert configured.weights["l1"] == 3
    without = {key: value for key, value in saved.state_dict().items() if "_extra_state" not in key}
    configured.load_state_dict(without)
    assert configured.weights["l1"] == 3


@pytest.mark.parametrize(
    ("term", "weight", "message"),
    [
        ("l1", float("nan"), "weights.l1=nan: wanted a finite number"),
        ("l1", "0.1", "wanted a finite number"),
        ("l2", 1.0, "the terms are 'mse', 'l1'"),
    ],
)
def test_weight_that_is_set_to_nonsense_is_an_input_error(term: str, weight: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        objective().weights[term] = weight  # type: ignore[index]


def test_fixed_is_the_default() -> None:
    assert isinstance(objective().weighting, Fixed)


class Regressor(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.objective = objective(InverseMean)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        total: Tensor = self.objective({"prediction": self.layer(batch)[:, 0], "target": 3 * batch[:, 0]})
        return total

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def test_weights_of_a_weighting_are_curves_and_its_state_is_in_the_checkpoint(tmp_path: Path) -> None:
    module = Regressor()
    trainer = tiny_trainer(tmp_path, [LossMonitor(log_every=2)], max_epochs=2)
    trainer.fit(module, DataLoader(torch.randn(16, 1), batch_size=4))
    assert len(read(tmp_path / "train")["weight/mse"]) == 4
    checkpoint = torch.load(trainer.checkpoint_callback.best_model_path, weights_only=True)
    other = Regressor()
    other.load_state_dict(checkpoint["state_dict"])
    assert torch.equal(other.objective.weighting.means, module.objective.weighting.means)
    assert not torch.equal(other.objective.weighting.means, torch.ones(2))


def state(folder: Path) -> dict[str, Any]:
    """Return the state of the objective in a run's last checkpoint."""
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=False)
    return {key: value for key, value in checkpoint["state_dict"].items() if "objective." in key}


def same(one: Any, other: Any) -> bool:
    return torch.equal(one, other) if isinstance(one, Tensor) else one == other


BALANCES = {
    "one of one's own": ["balance._target_=test_weighting.InverseMean"],
    "one of gradients, with a schedule and pictures": [
        "balance=gradnorm",
        "++schedule.center={kind: linear, start: 0.5, end: 1, until: 2}",
        "callbacks=[default,gradients]",
        "callbacks.gradients.every_n_batches=2",
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BALANCES)
def test_weighting_from_a_configuration_drives_a_run_and_is_restored_exactly(
    name: str, configure: Callable[..., DictConfig], tmp_path: Path
) -> None:
    def trained(name_: str, epochs: int, *overrides: str) -> Path:
        folder = tmp_path / name_
        run(
            configure(
                "loss=[triplet,center]", *BALANCES[name], f"run_dir={folder}", f"trainer.max_epochs={epochs}",
                "trainer.limit_train_batches=4", "log_every=2", *overrides,
            )
        )  # fmt: skip
        return folder

    whole, resumed = trained("whole", 2), trained("resumed", 1)
    trained("resumed", 2, f"ckpt={resumed}/checkpoints/last.ckpt")
    found, wanted = state(resumed), state(whole)
    assert all(same(found[key], wanted[key]) for key in wanted)
    curves, again = read(whole / "train"), read(resumed / "train")
    assert len(curves["weight/triplet"]) == 4
    for tag in {tag for tag in curves if tag.split("/")[0] in ("weight", "share", "gradient", "cosine")}:
        assert curves[tag] == again[tag], tag
    if "gradnorm" in BALANCES[name][0]:
        assert {"gradient/center", "gradient_share/triplet", "cosine/triplet~center"} <= curves.keys()
        accumulator = EventAccumulator(str(whole / "train"))
        assert accumulator.Reload().Tags()["images"] == ["pictures/cosines"]
