"""Pairs and triplets of images: their classes, that no image is in two splits, and those that a file lists."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lossframe.data import Digits, ImagePairs, ImageRows, ImageRowsFile, ImageTriplets
from lossframe.errors import InputError

OVERLAPPING = ["0.png,1.png,2.png,train", "3.png,4.png,2.png,val", "5.png,6.png,7.png,test"]
KINDS = [ImagePairs, ImageTriplets]


def drawn(kind: type[ImageRows], seed: int = 1, per_image: int = 1) -> ImageRows:
    data = kind(Digits(), seed=seed, per_image=per_image)
    data.setup()
    return data


def found(images: torch.Tensor) -> list[bytes]:
    return [image.numpy().tobytes() for image in images.flatten(0, 1)]


def classes_of(images: torch.Tensor) -> torch.Tensor:
    """Return the classes of a row's images, found by their pixels."""
    frame = Digits().load()
    known = dict(zip([image.numpy().tobytes() for image in frame["image"]], frame["labels"].tolist(), strict=True))
    return torch.tensor([known[each] for each in found(images)]).view(images.shape[:2])


@pytest.mark.parametrize("kind", KINDS)
def test_no_image_is_in_two_splits_and_each_image_comes_first(kind: type[ImageRows]) -> None:
    data = drawn(kind, per_image=2)
    held = [set(found(data.frame["images"][rows])) for rows in data.splits.values()]
    assert sum(map(len, held)) == len(set.union(*held)) == len(set(found(Digits().load()["image"][:, None])))
    blocks = 4 if kind is ImagePairs else 2
    assert sum(map(len, data.splits.values())) == 1797 * blocks


def test_target_of_a_pair_says_whether_its_images_are_of_one_class() -> None:
    frame = drawn(ImagePairs).frame
    classes = classes_of(frame["images"])
    assert torch.equal(frame["target"] == 1, classes[:, 0] == classes[:, 1])
    assert torch.equal(frame["labels"], classes[:, 0])
    assert (frame["images"][:, 0] != frame["images"][:, 1]).flatten(1).any(dim=1).all()


def test_positive_is_of_the_anchors_class_and_negative_is_not() -> None:
    classes = classes_of(drawn(ImageTriplets).frame["images"])
    assert torch.equal(classes[:, 0], classes[:, 1])
    assert (classes[:, 0] != classes[:, 2]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_rows_depend_on_the_seed_only(kind: type[ImageRows]) -> None:
    first, same, other = drawn(kind), drawn(kind), drawn(kind, seed=2)
    assert torch.equal(first.frame["images"], same.frame["images"])
    assert not torch.equal(first.frame["images"], other.frame["images"])
    same.load_state_dict(first.state_dict())
    with pytest.raises(InputError, match=r"data\.seed=2 for 1: wanted the split of the checkpoint"):
        other.load_state_dict(first.state_dict())


def written(folder: Path, rows: list[str]) -> Path:
    for number in range(12):
        Image.fromarray(np.full((4, 4), 20 * number, dtype=np.uint8)).save(folder / f"{number}.png")
    (folder / "rows.csv").write_text("\n".join(rows) + "\n")
    return folder / "rows.csv"


def test_pairs_of_a_file_that_share_an_image_are_in_one_split(tmp_path: Path) -> None:
    links = [(0, 1, 1), (1, 2, 0), (3, 4, 1), (4, 5, 0), (6, 7, 1), (8, 9, 1), (10, 11, 0)]
    path = written(tmp_path, ["path_a,path_b,target", *(f"{a}.png,{b}.png,{target}" for a, b, target in links)])
    data = ImageRowsFile(path, image_shape=[1, 4, 4], val_fraction=0.2, test_fraction=0.3)
    assert data.provides == {"images", "index", "target"}
    held = [set(data.frame["images"][rows].flatten().tolist()) for rows in data.splits.values()]
    assert sum(map(len, held)) == len(set.union(*held)) == 12
    assert data.frame["target"].tolist() == [target for *_, target in links]
    assert data.frame["images"][1, :, 0, 0, 0].mul(255).round().tolist() == [20, 40]


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (["a,b,target", "0.png,1.png,1"], {}, "wanted the columns 'path_a', 'path_b', 'target', or 'anchor'"),
        (["path_a,path_b,target", "0.png,1.png,2", "2.png,3.png,1", "4.png,5.png,1"], {"val_fraction": 0.3},
         "wanted target 1"),
        (["anchor,positive,negative", *[f"0.png,{i}.png,2.png" for i in range(3, 9)]], {}, "share so many images"),
        (["anchor,positive,negative,part", *OVERLAPPING],
         {"split_column": "part"}, "2.png is in train and val"),
        (["anchor,positive,negative", "0.png,1.png,nope.png", "3.png,4.png,5.png", "6.png,7.png,8.png"],
         {"val_fraction": 0.3}, r"nope\.png cannot be read as an image"),
    ],
)  # fmt: skip
def test_file_of_rows_that_cannot_be_used_is_an_input_error(
    tmp_path: Path, rows: list[str], options: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        ImageRowsFile(written(tmp_path, rows), image_shape=[1, 4, 4], **options).setup()
