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


def without_ids(table: dict[str, list[str]]) -> dict[str, list[str]]:
    return {name: column for name, column in table.items() if name != "index"}


@pytest.mark.parametrize(
    ("table", "options", "legend"),
    [
        (patients(), ["loss=mse", "metrics=regression"], "target = "),
        (flowers(), ["loss=cross_entropy", "metrics=classification"], "0 setosa, 1 versicolor, 2 virginica"),
    ],
    ids=["number", "classes"],
)
def test_prediction_of_new_rows_is_that_of_the_same_rows_in_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], table: pd.DataFrame,
    options: list[str], legend: str,
) -> None:  # fmt: skip
    table.to_csv(tmp_path / "all.csv", index=False)
    data = ["data=csv", f"data.path={tmp_path / 'all.csv'}", "data.target=target"]
    run = str(trained(tmp_path / "run", monkeypatch, *data, *options))
    before = predicted(tmp_path / "before.csv", run)
    chosen = table.iloc[[int(index) for index in before["index"]]]
    chosen[sorted(table)[::-1]].assign(other=0).to_csv(tmp_path / "new.csv", index=False)
    after = predicted(tmp_path / "after.csv", run, f"data.path={tmp_path / 'new.csv'}")
    assert without_ids(after) == without_ids(before)
    chosen.iloc[:1].drop(columns="target").to_csv(tmp_path / "one.csv", index=False)
    capsys.readouterr()
    one = without_ids(predicted(tmp_path / "one_after.csv", run, f"data.path={tmp_path / 'one.csv'}"))
    told = capsys.readouterr()
    assert "is left out: the data have no " in told.err
    assert legend in told.out
    assert one.keys() == {name for name in before if name.startswith(("prediction", "logits"))}
    for name, column in one.items():
        assert float(column[0]) == pytest.approx(float(before[name][0]), rel=1e-5, abs=1e-6)


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


def write_digits(folder: Path) -> None:
    """Write sixty digits of three classes to all/; to new/, larger and without the class d0; and one to bare/."""
    images, labels = load_digits(return_X_y=True)
    for number in np.flatnonzero(labels < 3)[:60]:
        image = Image.fromarray((images[number].reshape(8, 8) * 15).astype(np.uint8))
        places = [("all", f"d{labels[number]}", 8), ("new", f"d{max(1, labels[number])}", 12)]
        for top, name, size in [*places, ("bare", "", 8)] if number == 0 else places:
            (folder / top / name).mkdir(parents=True, exist_ok=True)
            image.resize((size, size)).save(folder / top / name / f"{number}.png")


def test_new_images_have_the_labels_and_the_shape_of_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_digits(tmp_path)
    options = ["model=embedder", "data=folder", f"data.root={tmp_path / 'all'}", "loss=cross_entropy", "metrics=[]"]
    run = trained(tmp_path / "run", monkeypatch, *options, "data.label_noise=0.5")
    found = predicted(tmp_path / "new.csv", str(run), f"data.root={tmp_path / 'new'}")
    assert [name[1] for name in found["name"]] == found["labels"]
    assert {*found["labels"]} == {"1", "2"}
    assert len(found["name"]) == 60
    bare = predicted(tmp_path / "bare.csv", str(run), f"data.root={tmp_path / 'bare'}")
    assert bare["name"] == ["0.png"]
    loaded = load_run(run)
    data = loaded.new_data(root=str(tmp_path / "bare"))
    data.setup("test")
    (batch,) = data.test_dataloader()
    with torch.no_grad():
        logits = loaded.model(batch)["logits"][0]
    assert logits.tolist() == pytest.approx([float(bare[f"logits_{k}"][0]) for k in range(3)], rel=1e-5, abs=1e-6)


def test_other_options_and_paths_of_the_same_data_test_what_the_run_has_tested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    flowers().to_csv("all.csv", index=False)
    options = ["data=csv", "data.path=all.csv", "data.target=target", "loss=cross_entropy", "metrics=[]"]
    run = trained(tmp_path / "run", monkeypatch, *options)
    before = predicted(tmp_path / "before.csv", str(run))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for same in ("data.separator=comma", "data.task=classification"):
        assert predicted(tmp_path / "after.csv", str(run), f"data.path={tmp_path / 'all.csv'}", same) == before
    assert not load_run(run).new_data(path=tmp_path / "all.csv").is_whole
    flowers().drop(columns="target").to_csv(tmp_path / "all.csv", index=False)
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", str(run)]) == 2
    assert "data.target=target: wanted a column of all.csv" in capsys.readouterr().err


def test_categories_and_classes_stay_texts_in_files_where_they_look_like_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grade = [("1", "A", "B")[k % 3] for k in range(90)]
    table = pd.DataFrame({"size": np.arange(90) % 7, "grade": grade, "target": [f"0{g}" for g in grade]})
    table.to_csv(tmp_path / "all.csv", index=False)
    options = ["data=csv", f"data.path={tmp_path / 'all.csv'}", "data.target=target", "loss=cross_entropy"]
    run = trained(tmp_path / "run", monkeypatch, *options, "metrics=[]")
    (tmp_path / "new.csv").write_text("size,grade,target\n1,1,01\n2,,01\n")
    data = load_run(run).new_data(path=tmp_path / "new.csv")
    with pytest.warns(UserWarning, match="missing values in 'grade'"):
        data.setup("test")
    assert data.frame["labels"].tolist() == [0, 0]
    assert data.frame["inputs"][:, 1:].tolist() == [[1, 0, 0], [0, 0, 0]]


def test_image_beside_the_class_folders_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_digits(tmp_path)
    options = ["model=embedder", "data=folder", f"data.root={tmp_path / 'all'}", "loss=cross_entropy", "metrics=[]"]
    run = str(trained(tmp_path / "run", monkeypatch, *options, "data.black=-1"))
    before = predicted(tmp_path / "before.csv", run)
    for place in ("all", "new"):
        (tmp_path / place / "stray.png").write_bytes((tmp_path / "bare" / "0.png").read_bytes())
    assert predicted(tmp_path / "after.csv", run) == before
    new = predicted(tmp_path / "new.csv", run, f"data.root={tmp_path / 'new'}")
    assert len(new["name"]) == 60
    assert predicted(tmp_path / "again.csv", run, "data=folder", f"data.root={tmp_path / 'new'}") == new
