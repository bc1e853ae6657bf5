"""What data says of itself is in the configuration before the model is made, in the records too, and on every rank."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import yaml
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from sklearn.datasets import load_diabetes, load_digits, load_iris
from torch.utils.data import DataLoader, StackDataset
from typed import refusal

from lossframe.errors import InputError
from lossframe.training.configuration import data_facts
from lossframe.training.run import run

Configure = Callable[..., DictConfig]
BRIEF = ("trainer.max_epochs=1", "trainer.num_sanity_val_steps=0", "logger=csv")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Write three classes of 20 grey images each."""
    images, labels = load_digits(return_X_y=True)
    for label in range(3):
        folder = tmp_path / "photos" / f"digit {label}"
        folder.mkdir(parents=True)
        for number, image in enumerate(images[labels == label][:20]):
            pixels = torch.from_numpy(image.reshape(8, 8) * 15).byte().numpy()
            Image.fromarray(pixels).resize((12, 10)).save(folder / f"{number}.png")
    return tmp_path / "photos"


def records(folder: Path) -> Any:
    return yaml.safe_load((folder / "resolved.yaml").read_text())


def test_folder_of_three_classes_trains_without_a_further_key(
    configure: Configure, photos: Path, tmp_path: Path
) -> None:
    assert run(configure("data=folder", f"data.root={photos}", *BRIEF), {"resolved.yaml": "before"}) is not None
    written = records(tmp_path)
    for group in ("data", "model"):
        assert written[group]["num_classes"] == 3
        assert written[group]["image_shape"] == [1, 10, 12]
    assert written["callbacks"]["hparams"]["hyperparameters"]["data"]["num_classes"] == 3


def test_number_that_differs_from_the_data_is_refused(configure: Configure, photos: Path) -> None:
    folder = ["data=folder", f"data.root={photos}"]
    assert "set data.num_classes=3" in (refusal(*folder, "data.num_classes=4") or "")
    assert refusal(*folder, "data.image_shape=[3,10,12]") is None


@pytest.mark.parametrize(
    ("load", "typed", "reason", "experiment"),
    [
        (load_diabetes, "experiment=classification", "a key that the configuration lacks", "regression"),
        (load_iris, "seed=2", "data.image_shape, which data=csv does not have", "classification"),
    ],
)
def test_table_names_the_experiment_that_trains_it(
    configure: Configure, tmp_path: Path, load: Any, typed: str, reason: str, experiment: str
) -> None:
    load(as_frame=True).frame.to_csv(tmp_path / "table.csv", index=False)
    command = ["data=csv", f"data.path={tmp_path}/table.csv", "data.target=target"]
    assert (refusal(*command, typed) or "").endswith(f" reads {reason}; add experiment={experiment}")
    assert run(configure(*command, f"experiment={experiment}", *BRIEF), {"resolved.yaml": ""}) is not None
    assert records(tmp_path)["model"]["num_inputs"] == load().data.shape[1]


def test_error_of_a_file_comes_before_choices_that_do_not_fit(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("a;b\n1;2\n")
    command = ["data=csv", f"data.path={tmp_path}/table.csv"]
    assert refusal(*command) == "data.target: wanted a value, found none; add data.target=VALUE"
    assert (refusal(*command, "data.target=c") or "").startswith("data.target=c: wanted a column of ")


class Own(pl.LightningDataModule):
    """Digits of a user's own, in plain loaders."""

    def __init__(self, num_classes: int | None = None, image_shape: Any = None, batch_size: int = 64) -> None:
        super().__init__()
        pixels, labels = load_digits(return_X_y=True)
        self.samples = StackDataset(
            image=torch.from_numpy(pixels[:200].reshape(-1, 1, 8, 8)).float() / 16,
            labels=torch.from_numpy(labels[:200]).long(),
            index=torch.arange(200),
        )
        self.batch_size = batch_size

    def facts(self) -> dict[str, Any]:
        return {"num_classes": 10, "image_shape": (1, 8, 8)}

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.samples, self.batch_size, shuffle=True)

    val_dataloader = test_dataloader = train_dataloader


def test_data_module_of_a_user_fills_in_its_facts(configure: Configure, tmp_path: Path) -> None:
    config = configure(
        "~data", f"+data._target_={__name__}.Own", "+data.num_classes=null", "+data.image_shape=null", *BRIEF
    )
    assert run(config, {"resolved.yaml": ""}) is not None
    assert records(tmp_path)["model"]["image_shape"] == [1, 8, 8]
    config.data.num_classes = 9
    with pytest.raises(InputError, match=r"data.num_classes=9: wanted 10, which Own finds; set data.num_classes=10"):
        run(config)


def test_batch_without_names_is_refused(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Own, "train_dataloader", lambda self: DataLoader(torch.utils.data.TensorDataset(torch.ones(9))))
    config = configure("~data", f"+data._target_={__name__}.Own", "+data.num_classes=10", "+data.image_shape=[1,8,8]")
    config.trainer.limit_val_batches = 0
    with pytest.raises(InputError, match="reads a batch: wanted a mapping from names to tensors, found list;"):
        run(config)


def test_batches_of_one_class_are_named_in_a_warning(configure: Configure, tmp_path: Path) -> None:
    config = configure(
        "~data", f"+data._target_={__name__}.Own", "+data.num_classes=10", "+data.image_shape=[1,8,8]",
        "+data.batch_size=1", *(f"trainer.limit_{stage}_batches=3" for stage in ("train", "val", "test")), *BRIEF,
    )  # fmt: skip
    with pytest.warns(UserWarning, match=r"\(BatchAllTripletLoss\) found no pair or triplet in any batch") as found:
        run(config)
    assert [str(each.message).partition(" (")[0] for each in found] == ["val: triplet", "test: triplet"]


def test_other_ranks_get_references_that_facts_may_fill_and_resolved_values_of_resolvers() -> None:
    config = OmegaConf.create({
        "data": {"size": None, "name": "a"},
        "model": {"size": "${data.size}", "all": ["${data}"], "text": "${data.name}/b", "path": "${oc.env:HOME}"},
    })  # fmt: skip
    given = OmegaConf.create(data_facts.for_ranks(config))
    given.data.size = 3
    home = OmegaConf.to_container(config, resolve=True)["model"]["path"]
    assert given.model == {"size": 3, "all": [{"size": 3, "name": "a"}], "text": "a/b", "path": home}
