"""Embeds images with a small convolutional network."""

from collections.abc import Collection, Mapping, Sequence
from math import gcd, prod
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from lossframe.counts import check_counts, check_given_counts, check_image_shape
from lossframe.models.entries import classes_of_logits, read

_SMALL = 16  # pixels a side


class ConvEmbedder(nn.Module):
    """Embeds images by three convolutions that halve their size, a mean over pixels and a linear layer.

    The first convolution halves only images above 16 pixels. Without `pooled` there is no mean: the linear layer reads
    all pixels, and features depend on where things are. The model reads `image` [N, C, H, W], and always returns
    `features` [N, D] and `embeddings` [N, D], the features scaled to length 1. `heads` names further outputs: `logits`
    and `probabilities` [N, K]; `reconstruction` [N, C, H, W] in [0, 1], the sigmoid of a linear layer; `parameters`
    [N, 3 M, H, W], or 10 M for three channels, of mixtures of M = `num_mixtures` logistics; `activity` [N], the mean
    square of the features. There is no batch normalisation, so that any split of a batch over ranks gives the same
    numbers. A batch may be empty.
    """

    provides: ClassVar[frozenset[str]] = frozenset(
        {"activity", "embeddings", "features", "logits", "parameters", "probabilities", "reconstruction"}
    )

    def __init__(
        self, image_shape: Sequence[int], num_classes: int | None = None, embedding_size: int = 64, width: int = 32,
        num_mixtures: int = 5, pooled: bool = True, heads: Collection[str] = (),
    ) -> None:  # fmt: skip
        super().__init__()
        check_counts(self, embedding_size=embedding_size, width=width, num_mixtures=num_mixtures)
        check_image_shape(self, image_shape)
        check_given_counts(self, num_classes=num_classes)
        self.image_shape = tuple(image_shape)
        self.pooled = pooled
        self.heads = frozenset(heads)
        stride = 1 if max(self.image_shape[1:]) <= _SMALL else 2
        self.trunk = nn.Sequential(
            _block(self.image_shape[0], width, stride),
            _block(width, 2 * width, stride=2),
            _block(2 * width, 2 * width, stride=2),
        )
        pixels = 1 if pooled else prod(-(-side // (4 * stride)) for side in self.image_shape[1:])
        self.project = nn.Linear(2 * width * pixels, embedding_size)
        if self.heads & {"logits", "probabilities"}:
            self.classify = nn.Linear(embedding_size, classes_of_logits(self, num_classes))
        if "reconstruction" in self.heads:
            self.decode = nn.Linear(embedding_size, prod(self.image_shape))
        if "parameters" in self.heads:
            self.mix = nn.Linear(embedding_size, num_mixtures * _numbers_of_a_mixture(self.image_shape))

    def forward(self, frame: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the entries that the model adds to the frame."""
        image = read(self, frame, "image", self.image_shape)
        found = self.trunk(image)
        features = self.project(found.mean(dim=(2, 3)) if self.pooled else found.flatten(1))
        entries = {"features": features, "embeddings": F.normalize(features, dim=1, eps=1e-6)}
        if self.heads & {"logits", "probabilities"}:
            entries["logits"] = self.classify(features)
        if "probabilities" in self.heads:
            entries["probabilities"] = entries["logits"].softmax(dim=1)
        if "reconstruction" in self.heads:
            entries["reconstruction"] = self.decode(features).sigmoid().unflatten(1, self.image_shape)
        if "parameters" in self.heads:
            entries["parameters"] = self.mix(features).unflatten(1, (-1, *self.image_shape[1:]))
        if "activity" in self.heads:
            entries["activity"] = features.square().mean(dim=1)
        return entries


def _numbers_of_a_mixture(image_shape: Sequence[int]) -> int:
    return (3 if image_shape[0] == 1 else 10) * prod(image_shape[1:])


def _block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1),
        nn.GroupNorm(gcd(8, outputs), outputs),
        nn.ReLU(),
    )
