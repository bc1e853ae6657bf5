"""Image callbacks draw the validation split, in train.py on any number of ranks and in foreign modules."""

import importlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_hard_samples import rows
from torch import Tensor
from trainers import tiny_trainer

from lossframe import InputError, LossMonitor
from lossframe.callbacks.base import MonitorCallback
from lossframe.callbacks.images import ConfusionMatrix, EmbeddingProjector, RetrievalExamples
from lossframe.losses import CrossEntropyLoss
from lossframe.training.checks.user_errors import explain
from lossframe.training.run import learner_of, run

Configure = Callable[..., DictConfig]
ALL = "callbacks=[default,embeddings,retrieval,confusion]"


def images(folder: Path) -> dict[str, list[tuple[int, np.ndarray]]]:
    """Return tag -> [(step, pixels), ...] of one TensorBoard run."""
    accumulator = EventAccumulator(str(folder), size_guidance={"images": 0})
    accumulator.Reload()
    return {
        tag: [(e.step, np.asarray(Image.open(io.BytesIO(e.encoded_image_string)))) for e in accumulator.Images(tag)]
        for tag in accumulator.Tags()["images"]
    }


def test_images_are_written_to_the_event_files_of_their_stage(configure: Configure, tmp_path: Path) -> None:
    twice = "callbacks.confusion.every_n_epochs=2"
    run(configure("loss=cross_entropy", ALL, "~callbacks.hparams", "trainer.max_epochs=2", twice))
    validated, tested = images(tmp_path / "val"), images(tmp_path / "test")
    assert [step for step, _ in validated["pictures/retrieval"]] == [1040, 2080]
    assert [step for step, _ in validated["pictures/confusion"]] == [2080]
    assert [step for step, _ in tested["pictures/retrieval"]] == [2080]
    assert validated["pictures/retrieval"][0][1].shape[2] == validated["pictures/confusion"][0][1].shape[2] == 3
    for stage, count in (("val", 179), ("test", 539)):
        (folder,) = (tmp_path / stage).glob("*/embeddings")
        assert np.loadtxt(folder / "tensors.tsv").shape == (count, 64)
        assert np.loadtxt(folder / "metadata.tsv").shape == (count,)
        with Image.open(folder / "sprite.png") as sprite:
            assert sprite.width == 32 * np.ceil(np.sqrt(count))
    assert {path.name for path in tmp_path.iterdir()} == {"train", "val", "test", "csv", "checkpoints", "metrics.json"}
    assert len(list((tmp_path / "val").glob("events*"))) == 1


def test_default_run_draws_no_images(configure: Configure, tmp_path: Path) -> None:
    run(configure("trainer.max_epochs=1"))
    assert not images(tmp_path / "val")
    assert not list(tmp_path.glob("*/projector_config.pbtxt"))


@pytest.mark.slow
def test_images_and_hard_samples_of_three_ranks_equal_those_of_one(
    on_each_rank: Callable[..., None], tmp_path: Path
) -> None:
    exact = ["trainer.precision=64-true", "trainer.max_epochs=2", "trainer.enable_progress_bar=false"]
    options = ["loss=[cross_entropy,triplet]", ALL.replace("]", ",hard_samples]"), "callbacks.embeddings.limit=100"]
    for ranks in (1, 3):
        on_each_rank(ranks, *options, *exact, f"hydra.run.dir={ranks}")
    for name in ("train_cross_entropy", "train_triplet", "val_cross_entropy", "test_triplet"):
        alone, shared = (rows(tmp_path / ranks / "hard" / f"{name}.csv") for ranks in ("1", "3"))
        assert len(alone) == 16
        assert [(row["id"], row["epochs"]) for row in alone] == [(row["id"], row["epochs"]) for row in shared]
        values = [[float(row["value"]) for row in each] for each in (alone, shared)]
        assert values[1] == pytest.approx(values[0], rel=1e-9)
    for stage in ("val", "test"):
        one, three = images(tmp_path / "1" / stage), images(tmp_path / "3" / stage)
        assert one.keys() == three.keys() >= {"pictures/confusion", "pictures/retrieval"}
        for tag, pictures in one.items():
            for (step, picture), (other_step, other) in zip(pictures, three[tag], strict=True):
                assert step == other_step
                np.testing.assert_array_equal(picture, other)
        (here,), (there,) = ((tmp_path / n / stage).glob("*/embeddings") for n in ("1", "3"))
        np.testing.assert_allclose(np.loadtxt(here / "tensors.tsv"), np.loadtxt(there / "tensors.tsv"), atol=1e-6)
        for name in ("metadata.tsv", "sprite.png"):
            assert (here / name).read_bytes() == (there / name).read_bytes()


@pytest.mark.parametrize(
    ("arguments", "wanted", "found"),
    [
        (
            ["experiment=diabetes", "callbacks=[default,embeddings]", "callbacks.embeddings.embeddings=nothing"],
            "'inputs'",
            "reads 'image', 'labels', 'nothing'",
        ),
        (["logger=csv", "callbacks=[default,retrieval]"], "TensorBoardLogger", "ResumableCSVLogger"),
        ([ALL, "callbacks.confusion.every_n_epochs=0"], "every_n_epochs >= 1", "found 0"),
        ([ALL, "callbacks.embeddings.limit=0"], "limit >= 1", "found 0"),
        (["loss=triplet", ALL], "ConfusionMatrix reads 'logits' of layers that no loss trains: add", "leave"),
        (["loss=[triplet,categorical_accuracy]", ALL], "ConfusionMatrix reads 'logits'", "no loss trains"),
        (["loss=[triplet,cross_entropy]", "weights.cross_entropy=0", ALL], "reads 'logits'", "no loss trains"),
        (
            ["callbacks=[default,retrieval]", "callbacks.retrieval.embeddings=reconstruction"],
            "RetrievalExamples reads 'reconstruction'",
            "no loss trains",
        ),
    ],
)
def test_wrong_image_options_are_errors_before_training(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, arguments: list[str], wanted: str, found: str
) -> None:
    monkeypatch.setattr("lossframe.Learner.training_step", lambda *_: pytest.fail("it trained"))
    with pytest.raises(Exception) as caught:  # noqa: PT011 - what is tested is the line that the user sees
        run(configure(*arguments))
    line = explain(caught.value)
    assert line is not None
    assert wanted in line
    assert found in line


@pytest.mark.parametrize(
    "arguments",
    [
        ["loss=triplet", "callbacks=[default,embeddings,retrieval,hard_samples]"],
        ["loss=triplet", "callbacks=[default,embeddings]", "callbacks.embeddings.embeddings=features"],
        ["loss=[triplet,cross_entropy]", ALL],
        ["loss=categorical_cross_entropy", ALL],  # of probabilities, which come from the same layer
    ],
)
def test_callback_without_layers_of_its_own_is_accepted(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setattr("lossframe.training.run.Learner", lambda **options: options)
    torch.manual_seed(0)
    learner, callbacks = learner_of(configure(*arguments))
    torch.manual_seed(0)
    alone = instantiate(configure(*arguments).model, heads=learner["model"].heads)  # type: ignore[index]
    for parameter, expected in zip(learner["model"].parameters(), alone.parameters(), strict=True):  # type: ignore[index]
        assert torch.equal(parameter, expected), "a check of the callbacks draws no random numbers"
    assert len(callbacks) > 5


def test_misspelt_callback_in_a_list_is_answered_with_the_nearest(command: Callable[..., Any]) -> None:
    (last,) = command("callbacks=[default,embedings]").stderr.splitlines()[-1:]
    assert last.startswith("error: callbacks=embedings: wanted one of 'confusion'")
    assert last.endswith("Did you mean 'embeddings'?")


def classifier(pl: Any, returned: Callable[[dict[str, Tensor]], Any]) -> Any:
    class Classifier(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(16, 3)
            self.criterion = CrossEntropyLoss()

        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            return self.criterion(self.layer(batch[0].flatten(1)), batch[1])

        def validation_step(self, batch: list[Tensor], batch_idx: int) -> Any:
            logits = self.layer(batch[0].flatten(1))
            return returned({"scores": logits, "class": batch[1], "photo": batch[0]})

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    return Classifier()


def fit(pl: Any, module: Any, folder: Path, *callbacks: MonitorCallback, **options: Any) -> Any:
    data = torch.utils.data.TensorDataset(torch.randn(20, 1, 4, 4), torch.arange(20) % 3)
    loader = torch.utils.data.DataLoader(data, batch_size=8)
    trainer = tiny_trainer(folder, [LossMonitor(), *callbacks], pl, max_epochs=2, **options)
    trainer.fit(module, loader, loader)
    return trainer


@pytest.mark.parametrize("package", ["pytorch_lightning", "lightning.pytorch"])
def test_entries_that_a_foreign_module_returns_are_drawn(package: str, tmp_path: Path) -> None:
    pl = importlib.import_module(package)
    callbacks = [
        ConfusionMatrix(logits="scores", labels="class"),
        RetrievalExamples("scores", "class", "photo", queries=3),
        EmbeddingProjector("scores", labels=None, image=None, every_n_epochs=1),
    ]
    trainer = fit(pl, classifier(pl, lambda frame: frame), tmp_path, *callbacks)
    assert {tag: [step for step, _ in found] for tag, found in images(tmp_path / "val").items()} == {
        "pictures/confusion": [20, 40], "pictures/retrieval": [20, 40],
    }  # fmt: skip
    assert len(list((tmp_path / "val").glob("*/embeddings/tensors.tsv"))) == 2
    trainer.validate(trainer.model, trainer.val_dataloaders, verbose=False)


@pytest.mark.parametrize(
    ("returned", "found"),
    [(lambda frame: None, "NoneType"), (lambda frame: {"scores": frame["scores"]}, "a mapping of 'scores'")],
)
def test_foreign_module_without_entries_raises_an_error_that_names_them(
    returned: Callable[[dict[str, Tensor]], Any], found: str, tmp_path: Path
) -> None:
    pl = importlib.import_module("pytorch_lightning")
    wanted = rf"'class' of the mapping that Classifier.validation_step returns, which is {found}: return \{{'scores'"
    with pytest.raises(InputError, match=wanted):
        fit(pl, classifier(pl, returned), tmp_path, ConfusionMatrix("scores", "class"), num_sanity_val_steps=0)


def test_fast_dev_run_draws_no_images(tmp_path: Path) -> None:
    pl = importlib.import_module("pytorch_lightning")
    fit(pl, classifier(pl, lambda frame: frame), tmp_path, ConfusionMatrix("scores", "class"), fast_dev_run=True)
    assert not list(tmp_path.glob("val/*"))
