"""Provides rows of two or three images: pairs with a target, and triplets; no image is in two splits."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Unpack

import numpy as np
import torch
from torch import Tensor

from lossframe.counts import check_counts, check_image_shape
from lossframe.data.images import ImageData
from lossframe.data.in_memory import DataOptions, InMemoryData
from lossframe.data.samplers import Positions, shuffled
from lossframe.data.splits import Splits, split_by
from lossframe.errors import InputError

_NONE = -1  # in place of an image, where a class has no other one


class ImageRows(InMemoryData, ABC):
    """Abstract base: draws rows of images from labelled `images`, `per_image` times for each image as the first one.

    Provides `images` float32 [B, 2 or 3, C, H, W], `labels` int64 [B], the class of the first image, and `index`. The
    images are split first, and all images of a row are of one split. The rows depend on the seed only, and are the same
    in every epoch. An image that is the only one of its class in its split comes first in no row that needs another.
    """

    def __init__(
        self, images: ImageData, image_shape: tuple[int, ...] | None = None, per_image: int = 1,
        **options: Unpack[DataOptions],
    ) -> None:  # fmt: skip
        options.setdefault("sampler", shuffled)
        super().__init__(**options)
        check_counts(self, most=1000, per_image=per_image)
        check_image_shape(self, image_shape)
        self.images = images
        self.image_shape = None if image_shape is None else tuple(image_shape)
        self.per_image = per_image
        self._divided: Splits = {}

    @abstractmethod
    def rows(self, positive: Positions, negative: Positions) -> tuple[list[list[Positions]], dict[str, Tensor]]:
        """Return blocks of rows and their further entries, for another image of each image's class and of another.

        A block has a row for each image, as one or two lists of the images that follow this image.
        """

    def load(self) -> dict[str, Tensor]:
        """Split the images, draw the rows of each split, and return those of all splits."""
        loaded = self.images.load()
        splits = split_by(self.split, loaded["labels"], self.val_fraction, self.test_fraction, self.seed)
        loaded = self.images.prepare(loaded, splits["train"])
        size, generator = len(loaded["labels"]), np.random.default_rng([self.seed, self.per_image])
        blocks, entries = [], []
        for _ in range(self.per_image):
            partners = [np.full(size, _NONE) for _ in range(2)]
            for name, ids in splits.items():
                for partner, found in zip(partners, _drawn(name, loaded["labels"], ids, generator), strict=True):
                    partner[ids.numpy()] = found
            drawn, further = self.rows(*partners)
            blocks += [np.stack([np.arange(size), *each], axis=1) for each in drawn]
            entries.append(further)
        members = np.concatenate(blocks)
        complete = torch.from_numpy((members != _NONE).all(axis=1))
        numbered = torch.arange(len(members)).reshape(-1, size)
        self._divided = {name: (rows := numbered[:, ids].flatten())[complete[rows]] for name, ids in splits.items()}
        further = {name: torch.cat([each[name] for each in entries]) for name in entries[0]}
        return {
            "images": loaded["image"][torch.from_numpy(members)],
            "labels": loaded["labels"].repeat(len(blocks)),
            **further,
        }

    def describe(self, frame: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return the shape of an image."""
        return {"image_shape": tuple(frame["images"].shape[2:])}

    def divide(self, frame: Mapping[str, Tensor]) -> Splits:
        """Return the rows of each split of the images."""
        return self._divided


class ImagePairs(ImageRows):
    """Draws pairs: for each image one pair with an image of its class, `target` 1, and one with another's, `target` 0.

    `target` is float32 [B].
    """

    provides: ClassVar[frozenset[str]] = frozenset({"images", "index", "labels", "target"})

    def rows(self, positive: Positions, negative: Positions) -> tuple[list[list[Positions]], dict[str, Tensor]]:
        """Return a block of pairs of one class, and a block of pairs of two classes."""
        target = torch.cat([torch.ones(len(positive)), torch.zeros(len(negative))])
        return [[positive], [negative]], {"target": target}


class ImageTriplets(ImageRows):
    """Draws triplets: for each image, the anchor, an image of its class, the positive, and another, the negative."""

    provides: ClassVar[frozenset[str]] = frozenset({"images", "index", "labels"})

    def rows(self, positive: Positions, negative: Positions) -> tuple[list[list[Positions]], dict[str, Tensor]]:
        """Return a block of triplets."""
        return [[positive, negative]], {}


def _drawn(split: str, labels: Tensor, ids: Tensor, generator: np.random.Generator) -> tuple[Positions, Positions]:
    """Draw for each image of a split another one of its class, if there is one, and one of another class."""
    images, classes = ids.numpy(), labels[ids].numpy()
    positive, negative = np.full(len(images), _NONE), np.full(len(images), _NONE)
    for label in np.unique(classes):
        own, others = images[classes == label], images[classes != label]
        if not len(others):
            raise InputError(f"pairs want images of two classes in each split, but {split} has only class {label}")
        negative[classes == label] = generator.choice(others, len(own))
        if len(own) > 1:
            steps = generator.integers(1, len(own), len(own))
            positive[classes == label] = own[(np.arange(len(own)) + steps) % len(own)]
    return positive, negative
