"""`ImageFolder` reads folders of images, and names the files and options that it cannot use."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from PIL import Image

from lossframe.data import ImageFolder, shuffled
from lossframe.errors import InputError

CONF = str(Path(__file__).parents[2] / "conf")


def write_images(root: Path, counts: dict[str, int]) -> Path:
    generator = np.random.default_rng(0)
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            pixels = generator.integers(0, 256, (6 + number, 9, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_resized_and_labelled_by_their_folder(tmp_path: Path, channels: int) -> None:
    root = write_images(tmp_path / "pets", {"dog": 8, "cat": 5, ".hidden": 1})
    (root / "dog" / "notes.txt").write_text("not an image")
    data = ImageFolder(root, num_classes=2, image_shape=(channels, 12, 10), batch_size=4, sampler=shuffled)
    data.setup()
    assert data.frame["image"].shape == (13, channels, 12, 10)
    assert data.frame["labels"].tolist() == [0] * 5 + [1] * 8
    assert data.sample_names == [f"cat/{k}.png" for k in range(5)] + [f"dog/{k}.png" for k in range(8)]
    expected = Image.open(root / "cat" / "0.png").convert("L" if channels == 1 else "RGB").resize((10, 12), 2)
    pixels = np.asarray(expected, dtype=np.float32).reshape(12, 10, channels) / 255
    np.testing.assert_array_equal(data.frame["image"][0].permute(1, 2, 0), pixels)


@pytest.mark.parametrize(
    ("mode", "sizes", "shape"),
    [
        ("RGB", [(60, 40)] * 6, (3, 40, 60)),
        ("L", [(20, 30)] * 5 + [(30, 20)], (1, 32, 32)),
        ("P", [(65, 64)] * 6, (3, 32, 32)),
    ],
)
def test_shape_and_classes_are_read_from_the_images(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: str, sizes: list[tuple[int, int]], shape: tuple[int, ...]
) -> None:
    for number, size in enumerate(sizes):
        (tmp_path / str(number % 2)).mkdir(exist_ok=True)
        Image.new(mode, size, number).save(tmp_path / str(number % 2) / f"{number}.png")
    with caplog.at_level("INFO"):
        data = ImageFolder(tmp_path, sampler=shuffled)
        assert data.facts() == {"num_classes": 2, "image_shape": shape}
        assert not caplog.text, "a wrong command ends in one line alone"
        data.setup("fit")
    assert f"6 images of 2 classes, {'all' if len(set(sizes)) == 1 else 'of 2 sizes'}" in caplog.text
    assert f"image_shape is [{','.join(map(str, shape))}]" in caplog.text


def test_image_of_16_bits_keeps_its_range(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(3):
            ramp = np.linspace(0, 65535, 64, dtype=np.uint16).reshape(8, 8)
            Image.fromarray(ramp).save(tmp_path / name / f"{number}.png")
    image = ImageFolder(tmp_path, num_classes=2, image_shape=(1, 8, 8)).load()["image"]
    torch.testing.assert_close(image[0].flatten(), torch.linspace(0, 1, 64), atol=1 / 255, rtol=0)


def folder_errors(root: Path) -> list[tuple[ImageFolder, str]]:
    write_images(root / "few", {"cat": 3, "dog": 2})
    write_images(root / "flat", {"cat": 3})
    broken = write_images(root / "broken", {"cat": 3, "dog": 3})
    (broken / "dog" / "1.png").write_bytes(b"not a png")
    cut = write_images(root / "cut", {"cat": 3, "dog": 3})
    (cut / "cat" / "1.png").write_bytes((cut / "cat" / "2.png").read_bytes()[:200])
    return [
        (ImageFolder(root / "none", 2), r"none/CLASS/\*\.png.*none is not a folder: set data.root"),
        (ImageFolder(root / "flat" / "cat", 2), r"has no folders, only '0\.png', '1\.png', '2\.png'"),
        (ImageFolder(root / "few", 2), r"at least 3 images a class, but .*few/dog has 2"),
        (ImageFolder(broken, 2), r"broken/dog/1\.png cannot be read as an image"),
        (ImageFolder(cut, 2), r"cut/cat/1\.png cannot be read as an image"),
        (ImageFolder(root / "flat", 2), "given num_classes=2, but its data has 1: set data.num_classes=1"),
        (ImageFolder(root / "flat", 1, image_shape=(2, 8, 8)), r"1 or 3 channels, but image_shape is \(2, 8, 8\)"),
    ]


def test_folder_that_cannot_be_read_is_an_input_error(tmp_path: Path) -> None:
    for data, message in folder_errors(tmp_path):
        with pytest.raises(InputError, match=message):
            data.setup()


def test_images_of_one_class_can_be_read_but_not_mislabelled(tmp_path: Path) -> None:
    root = write_images(tmp_path / "only", {"cat": 9})
    data = ImageFolder(root, num_classes=1, batch_size=4, sampler=shuffled)
    data.setup()
    assert data.frame["labels"].tolist() == [0] * 9
    with pytest.raises(InputError, match=r"label_noise=0\.5 wants two classes, found 1"):
        ImageFolder(root, num_classes=1, label_noise=0.5)


def test_image_of_too_many_pixels_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_images(tmp_path / "pets", {"cat": 3, "dog": 3})
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    with pytest.raises(InputError, match=r"cat/0\.png cannot be read as an image \(Image size"):
        ImageFolder(root, num_classes=2).load()


def test_configuration_builds_a_data_set_of_a_folder(tmp_path: Path) -> None:
    root = write_images(tmp_path, {"cat": 20, "dog": 20})
    with initialize_config_dir(CONF, version_base=None):
        folder = ["+data=folder", "+seed=0", f"data.root={root}", "data.num_classes=2", "data.image_shape=[1,8,8]"]
        config = compose(overrides=[*folder, "data.batch_size=8", "data.sampler.samples_per_class=4"])
    data = instantiate(config.data)
    data.setup()
    assert next(iter(data.train_dataloader()))["labels"].bincount().tolist() == [4, 4]
