"""`CsvFile` reads columns, target and splits from a file, and says what is wrong with one that it cannot use."""

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_diabetes, load_iris

from lossframe.data import CsvFile
from lossframe.errors import InputError


def ready(path: Path, target: str, **options: Any) -> CsvFile:
    data = CsvFile(path, target, **options)
    data.setup()
    return data


def patients(path: Path, gaps: bool = False) -> pd.DataFrame:
    """Write 442 patients with a category and, perhaps, gaps in two columns."""
    table = load_diabetes(as_frame=True, scaled=False).frame
    table["sex"] = table["sex"].map({1: "female", 2: "male"})
    if gaps:
        table.loc[table.index[::26], "bmi"] = np.nan
        table.loc[table.index[3:8], "sex"] = None
    table.to_csv(path, index=False)
    return table


def flowers(path: Path, **options: Any) -> pd.DataFrame:
    found = load_iris(as_frame=True)
    table = found.frame.assign(species=found.target_names[found.target]).drop(columns="target")
    table.to_csv(path, **options)
    return table


def test_numbers_become_a_standardised_regression(tmp_path: Path) -> None:
    table = patients(tmp_path / "patients.csv")
    data = ready(tmp_path / "patients.csv", "target", seed=3)
    assert data.provides == {"inputs", "target", "index"}
    assert data.facts() == {"num_inputs": 11, "num_outputs": 1, "num_classes": None}
    assert data.column_names == ["age", "sex=female", "sex=male", *table.columns[2:-1]]
    train, target = data.splits["train"].numpy(), table["target"].to_numpy()
    assert data.target_mean == pytest.approx(target[train].mean())
    torch.testing.assert_close(data.frame["target"] * data.target_std + data.target_mean, torch.tensor(target).float())
    assert data.frame["inputs"].dtype == data.frame["target"].dtype == torch.float32
    assert data.frame["inputs"][:, 2].tolist() == (table["sex"] == "male").astype(float).tolist()
    age = table["age"].to_numpy()
    expected = (age - age[train].mean()) / age[train].std()
    np.testing.assert_allclose(data.frame["inputs"][:, 0], expected, rtol=1e-5, atol=1e-6)


def test_gaps_are_filled_by_training_rows_and_counted_in_a_warning(tmp_path: Path) -> None:
    table = patients(tmp_path / "patients.csv", gaps=True)
    with pytest.warns(UserWarning, match=r"missing values in 'sex' \(5\), 'bmi' \(17\): a missing number becomes"):
        data = ready(tmp_path / "patients.csv", "target")
    rows = np.flatnonzero(table["bmi"].isna())
    np.testing.assert_allclose(data.frame["inputs"][rows, data.column_names.index("bmi")], 0, atol=1e-5)
    assert data.frame["inputs"][3:8, 1:3].abs().sum() == 0


def test_text_and_few_whole_numbers_and_truth_become_classes(tmp_path: Path) -> None:
    table = flowers(tmp_path / "flowers.csv", sep=";", index=False)
    data = ready(tmp_path / "flowers.csv", "species")
    assert data.facts() == {"num_inputs": 4, "num_outputs": 3, "num_classes": 3}
    assert data.class_names == ["setosa", "versicolor", "virginica"]
    assert data.provides == {"inputs", "labels", "index"}
    assert [int(ids.shape[0]) for ids in data.splits.values()] == [90, 15, 45]
    assert data.frame["labels"][data.splits["val"]].bincount().tolist() == [5, 5, 5]
    table.assign(long=table["petal length (cm)"] > 3, grade=np.arange(150) % 7).to_csv(
        tmp_path / "more.csv", index=False
    )
    binary = ready(tmp_path / "more.csv", "long", ignore=["species"])
    assert (binary.class_names, binary.num_outputs) == (["False", "True"], 2)
    assert torch.equal(binary.frame["target"], binary.frame["labels"].float())
    graded = ready(tmp_path / "more.csv", "grade", columns=["long", "species"])
    assert (graded.num_classes, graded.column_names[0]) == (7, "long")
    assert ready(tmp_path / "more.csv", "grade", task="regression").num_classes is None


def test_categories_of_training_rows_and_the_split_are_those_of_the_split_column(tmp_path: Path) -> None:
    text = "city,size,part,price\n" + "".join(
        f"{city},{size},{part},{size * 1.5}\n"
        for city, size, part in [("ulm", 1, "train"), ("bonn", 4, "train"), ("ulm", 2, "val"), ("kiel", 3, "test")]
    )
    (tmp_path / "houses.csv").write_text("\ufeff" + text, encoding="utf-8")
    with pytest.warns(UserWarning, match=r"that no training row has in 'city' \(1\)"):
        data = ready(tmp_path / "houses.csv", "price", split_column="part", task="regression")
    assert {name: ids.tolist() for name, ids in data.splits.items()} == {"train": [0, 1], "val": [2], "test": [3]}
    assert data.column_names == ["city=bonn", "city=ulm", "size"]
    assert data.frame["inputs"][3, :2].tolist() == [0, 0]


def wrong(path: Path, text: str | bytes, target: str = "y", **options: Any) -> str:
    """Return the one line that refuses a file."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError) as error:
        ready(path, target, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_training_goes_on_with_the_same_values_only(tmp_path: Path) -> None:
    table = patients(tmp_path / "patients.csv")
    state = ready(tmp_path / "patients.csv", "target").state_dict()
    ready(tmp_path / "patients.csv", "target").load_state_dict(state)
    table.assign(bmi=table["bmi"] + 1).to_csv(tmp_path / "patients.csv", index=False)
    with pytest.raises(InputError, match="the data have another 'columns', 'scale of inputs' than in the checkpoint's"):
        ready(tmp_path / "patients.csv", "target").load_state_dict(state)


HEAD = "a,b,y\n"
ROWS = "".join(f"{k % 5},{k * 0.5},{k * 0.1}\n" for k in range(1, 40))
GOOD = HEAD + ROWS


def nine(row: str, head: str = HEAD) -> str:
    """Return a file of nine rows, of which `K` is the number."""
    return head + "".join(f"{row}\n".replace("K", str(number)) for number in range(9))


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, "is empty: wanted a header"),
        ("a,b,y\n", {}, "has a header, but no rows"),
        ("a,a,y\n" + ROWS, {}, "'a' twice; rename one"),
        ("a;b;y\n1;2;3\n", {"separator": ","}, "found one, 'a;b;y'; set data.separator=semicolon"),
        ("y\n1\n2\n", {}, "wanted columns that data.separator=',' separates, found one, 'y'"),
        ("a,b,y\n1,2,3,4\n", {}, "rows do not have the columns of the header"),
        ("a,b,y\n1,2,3\n1,2,3,4\n", {}, "rows do not have the columns of the header"),
        ("a,b,y\nJos\xe9,1,2\n".encode("latin1"), {}, "is not UTF-8, as byte 9 shows; save it as UTF-8"),
        (GOOD, {"target": "x"}, "data.target=x: wanted a column of .*, one of 'a', 'b', 'y'."),
        ("alpha,b,y\n" + ROWS, {"ignore": ["alpa"]}, "data.ignore=alpa: .* Did you mean 'alpha'?"),
        (GOOD, {"columns": ["y"]}, "wanted a column beside the target"),
        (GOOD + "1,1,\n", {}, "1 of 40 rows of .* have no finite value, the first are rows 40; remove"),
        (GOOD + "1,1,inf\n", {}, "1 of 40 rows of .* have no finite value"),
        (GOOD + "1,inf,2\n", {}, r"column 'b': wanted numbers that float32 holds, .* 40; .*data.ignore=\[b\]"),
        (GOOD + "1,n/k,2\n", {}, "column 'b': .* 39 of 40 .* text such as 'n/k' in row 40"),
        (nine("-K;K,5;K.1", "a;b;y\n"), {}, "set 'data.decimal"),
        (nine("1,K.5,K.5"), {}, r"column 'a': the same in all rows; add data.ignore=\[a\]"),
        (nine("K,-K,K.5", "a b,b,y\n"), {}, r"the number of the row; add 'data.ignore=\[\"a b\"\]'"),
        (nine("nK,-K,K.5"), {}, r"in 9 rows: 'a' \(9\); add data.ignore=\[a\]"),
        (GOOD.replace("0.1\n", "cat\n"), {}, "column 'y': wanted numbers, found 38 of 39"),
        (nine("K.5,-K,cK"), {}, "3 rows or more of each of 9 classes"),
        (nine("K,-K,no"), {}, "data.target=y: the same in all rows"),
        (GOOD, {"task": "classification"}, "wanted classes .* such as 0.1; use data.task=regression"),
        (GOOD, {"task": "regresion"}, "Did you mean 'regression'?"),
        (GOOD, {"split_column": "a"}, "split_column=a: wanted 'train', 'val' or 'test' .*, found '0'"),
        (GOOD, {"num_inputs": 3}, "num_inputs=3, but its data has 2: set data.num_inputs=2"),
    ],
)  # fmt: skip
def test_file_or_option_that_does_not_fit_is_an_input_error(
    tmp_path: Path, text: Any, options: Any, message: str
) -> None:
    line = wrong(tmp_path / "table.csv", text, **options)
    assert re.search(message, line), line


def test_reading_without_pandas_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert "pip install lossframe[data]" in wrong(tmp_path / "table.csv", "a,y\n1,2\n")
