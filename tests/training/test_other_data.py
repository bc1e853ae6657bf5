"""A trained run is used on other data, which are prepared as those of its training, with and without a target."""

import csv
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_diabetes, load_digits, load_iris

from lossframe import load_run
from lossframe.__main__ import main

BRIEF = ["trainer.max_epochs=1", "trainer.enable_progress_bar=false", "hydra/job_logging=disabled", "model=mlp"]


def trained(folder: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> Path:
    monkeypatch.setattr(sys, "argv", ["lossframe"])
    assert main(["train", *BRIEF, *options, f"run_dir={folder}"]) == 0
    return folder


def predicted(out: Path, *arguments: str) -> dict[str, list[str]]:
    """Return the columns of a prediction, as text."""
    assert main(["predict", *arguments, "--out", str(out), "--force"]) == 0
    with out.open() as file:
        rows = list(csv.DictReader(file))
    return {name: [row[name] for row in rows] for name in rows[0]}


def patients() -> pd.DataFrame:
    table = load_diabetes(as_frame=True, scaled=False).frame
    table["sex"] = table["sex"].map({1: "female", 2: "male"})
    return table.assign(old=table["age"] > 50)


def flowers() -> pd.DataFrame:
    found = load_iris(as_frame=True)
    return found.frame.assign(target=found.target_names[found.target])


@pytest.mark.parametrize("table", [patients(), flowers()], ids=["number", "classes"])
def test_prediction_of_new_rows_is_that_of_the_same_rows_in_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], table: pd.DataFrame
) -> None:
    table.to_csv(tmp_path / "all.csv", index=False)
    loss = (
        ["loss=mse", "metrics=regression"]
        if table["target"].dtype.kind == "f"
        else ["loss=cross_entropy", "metrics=classification"]
    )
    options = ["data=csv", f"data.path={tmp_path / 'all.csv'}", "data.target=target", *loss]
    run = str(trained(tmp_path / "run", monkeypatch, *options))
    before = predicted(tmp_path / "before.csv", run)
    chosen = table.iloc[[int(index) for index in before["index"]]]
    chosen[sorted(table)[::-1]].assign(other=0).to_csv(tmp_path / "new.csv", index=False)
    after = predicted(tmp_path / "after.csv", run, f"data.path={tmp_path / 'new.csv'}")
    assert {name: column for name, column in after.items() if name != "index"} == {
        name: column for name, column in before.items() if name != "index"
    }
    chosen.iloc[:1].drop(columns="target").to_csv(tmp_path / "one.csv", index=False)
    capsys.readouterr()
    one = predicted(tmp_path / "one_after.csv", run, f"data.path={tmp_path / 'one.csv'}")
    outputs = [name for name in before if name.startswith(("prediction", "logits"))]
    assert list(one) == ["index", *outputs]
    for name in outputs:
        assert float(one[name][0]) == pytest.approx(float(before[name][0]), rel=1e-5, abs=1e-6)
    told = capsys.readouterr()
    assert "is left out: the data have no " in told.err
    assert ("target = " in told.out) == ("loss=mse" in loss)
    assert ("0 setosa, 1 versicolor, 2 virginica" in told.out) == ("loss=mse" not in loss)


def test_new_rows_that_do_not_fit_the_training_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = flowers().assign(wet=np.arange(150) % 3 == 0)
    table.to_csv(tmp_path / "all.csv", index=False)
    options = [
        "data=csv",
        f"data.path={tmp_path / 'all.csv'}",
        "data.target=target",
        "loss=cross_entropy",
        "metrics=[]",
    ]
    run = trained(tmp_path / "run", monkeypatch, *options)
    petal = "petal width (cm)"
    for changed, message in (
        (table.drop(columns=petal), f"wanted the columns of the training, found none of {petal!r}"),
        (table.assign(**{petal: "wide"}), f"column {petal!r}: wanted numbers, as in training, found 'wide'"),
        (table.assign(wet=0.5), "column 'wet': wanted true and false, as in training, found '0.5'"),
        (table.assign(target="rose"), "wanted the classes of the training, 'setosa', 'versicolor', 'virginica', found"),
    ):
        changed.to_csv(tmp_path / "new.csv", index=False)
        assert main(["evaluate", str(run), f"data.path={tmp_path / 'new.csv'}"]) == 2
        assert message in capsys.readouterr().err


def test_new_images_have_the_labels_and_the_shape_of_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = load_digits(return_X_y=True)
    for number in np.flatnonzero(labels < 3)[:60]:
        image = Image.fromarray((images[number].reshape(8, 8) * 15).astype(np.uint8))
        for place in (tmp_path / "all" / f"d{labels[number]}", tmp_path / "new" / f"d{max(1, labels[number])}"):
            place.mkdir(parents=True, exist_ok=True)
            image.resize((12, 12) if "new" in place.parts else (8, 8)).save(place / f"{number}.png")
    (tmp_path / "bare").mkdir()
    image.save(tmp_path / "bare" / "one.png")
    options = ["model=embedder", "data=folder", f"data.root={tmp_path / 'all'}", "loss=cross_entropy", "metrics=[]"]
    run = trained(tmp_path / "run", monkeypatch, *options, "data.label_noise=0.5")
    found = predicted(tmp_path / "new.csv", str(run), f"data.root={tmp_path / 'new'}")
    assert {name.split("/")[0]: label for name, label in zip(found["name"], found["labels"], strict=True)} == {
        "d1": "1", "d2": "2",
    }  # fmt: skip
    assert len(found["name"]) == 60
    bare = predicted(tmp_path / "bare.csv", str(run), f"data.root={tmp_path / 'bare'}")
    assert bare["name"] == ["one.png"]
    loaded = load_run(run)
    data = loaded.new_data(root=str(tmp_path / "bare"))
    data.setup("test")
    (batch,) = data.test_dataloader()
    with torch.no_grad():
        logits = loaded.model(batch)["logits"][0]
    assert logits.tolist() == pytest.approx([float(bare[f"logits_{k}"][0]) for k in range(3)], rel=1e-5, abs=1e-6)
