"""Provides images with two overlapping digits, one at the top left and one at the bottom right."""

from collections.abc import Mapping
from typing import Any, ClassVar, Unpack

import numpy as np
import torch
from torch import Tensor

from lossframe.counts import check_counts, check_given_counts, check_image_shape
from lossframe.data.images import ImageData
from lossframe.data.in_memory import DataOptions, InMemoryData
from lossframe.data.samplers import shuffled
from lossframe.data.splits import Splits, split_by


class TwoDigits(InMemoryData):
    """Draws two images of labelled `images` into one, the second one `offset` pixels lower and further to the right.

    Where both overlap, the brighter pixel shows, as in MultiMNIST (Sabour et al. 2017, https://arxiv.org/abs/1710.09829,
    and Sener & Koltun 2018, https://arxiv.org/abs/1810.04650). Provides `image` float32
    [B, C, H + offset, W + offset], `left` and `right` int64 [B], the class of each image, `classes` int64 [B, 2], both,
    and `index`. The images are split first, and both images of a sample are of one split. Each image is `per_image`
    times the left one and as often the right one, with partners that depend on the seed only.
    """

    provides: ClassVar[frozenset[str]] = frozenset({"classes", "image", "index", "left", "right"})

    def __init__(
        self, images: ImageData, num_classes: int | None = None, image_shape: tuple[int, ...] | None = None,
        offset: int = 8, per_image: int = 1, **options: Unpack[DataOptions],
    ) -> None:  # fmt: skip
        options.setdefault("sampler", shuffled)
        super().__init__(**options)
        check_counts(self, most=1000, per_image=per_image)
        check_counts(self, least=0, most=1000, offset=offset)
        check_given_counts(self, num_classes=num_classes)
        check_image_shape(self, image_shape)
        self.images = images
        self.num_classes = num_classes
        self.image_shape = None if image_shape is None else tuple(image_shape)
        self.offset = offset
        self.per_image = per_image
        self._divided: Splits = {}

    def load(self) -> dict[str, Tensor]:
        """Split the images, draw the partners within each split, and compose the samples of all splits."""
        loaded = self.images.load()
        splits = split_by(self.split, loaded["labels"], self.val_fraction, self.test_fraction, self.seed)
        loaded = self.images.prepare(loaded, splits["train"])
        generator = np.random.default_rng([self.seed, self.per_image])
        drawn = {name: self._pairs(ids, generator) for name, ids in splits.items()}
        ends = np.cumsum([len(pairs) for pairs in drawn.values()])
        self._divided = {
            name: torch.arange(int(end) - len(pairs), int(end))
            for (name, pairs), end in zip(drawn.items(), ends, strict=True)
        }
        left, right = torch.cat(list(drawn.values())).unbind(1)
        classes = loaded["labels"][torch.stack([left, right], dim=1)]
        image = self._composed(loaded["image"][left], loaded["image"][right])
        return {"image": image, "left": classes[:, 0], "right": classes[:, 1], "classes": classes}

    def describe(self, frame: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return the number of classes of each digit and the shape of an image."""
        return {"num_classes": len(frame["classes"].unique()), "image_shape": tuple(frame["image"].shape[1:])}

    def divide(self, frame: Mapping[str, Tensor]) -> Splits:
        """Return the samples of each split of the images."""
        return self._divided

    def _pairs(self, ids: Tensor, generator: np.random.Generator) -> Tensor:
        """Draw the left and the right image [N, 2] of each sample of a split: neighbours on a ring in random order."""
        rings = [generator.permutation(ids.numpy()) for _ in range(self.per_image)]
        return torch.from_numpy(np.concatenate([np.stack([ring, np.roll(ring, 1)], axis=1) for ring in rings]))

    def _composed(self, left: Tensor, right: Tensor) -> Tensor:
        """Return images [N, C, H + offset, W + offset] of two images [N, C, H, W] each."""
        count, channels, height, width = left.shape
        shape = (count, channels, height + self.offset, width + self.offset)
        image = left.new_full(shape, self.images.black)
        image[:, :, :height, :width] = left
        lower = image[:, :, self.offset :, self.offset :]
        torch.maximum(lower, right, out=lower)
        return image
