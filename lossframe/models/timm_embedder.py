"""Embeds images with a network of the library timm, perhaps with pretrained weights."""

import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lossframe.counts import check_counts, check_given_counts, check_image_shape
from lossframe.errors import InputError, nearest
from lossframe.models.entries import classes_of_logits, read


class TimmEmbedder(nn.Module):
    """Embeds images by a network of timm, `name`, without its classifier, and a linear layer.

    The model reads `image` [N, C, H, W] in [0, 1], and always returns `features` [N, D] and `embeddings` [N, D], the
    features scaled to length 1. `heads` names further outputs: `logits` and `probabilities` [N, K], and `activity` [N],
    the mean square of the features. `options` are passed to `timm.create_model`, as `img_size` for a transformer.

    `pretrained` loads weights, and scales images as these weights want. Weights that cannot be loaded are random, with
    a warning. Many of timm's networks normalise over the batch: on several ranks see `trainer.sync_batchnorm`.
    """

    mean: Tensor
    std: Tensor
    provides: ClassVar[frozenset[str]] = frozenset({"activity", "embeddings", "features", "logits", "probabilities"})

    def __init__(
        self, name: str, image_shape: Sequence[int], num_classes: int | None = None, embedding_size: int = 64,
        pretrained: bool = False, options: Mapping[str, Any] | None = None, heads: Collection[str] = (),
    ) -> None:  # fmt: skip
        super().__init__()
        check_counts(self, embedding_size=embedding_size)
        check_image_shape(self, image_shape)
        check_given_counts(self, num_classes=num_classes)
        self.name = name
        self.image_shape = tuple(image_shape)
        self.heads = frozenset(heads)
        self.backbone = _backbone(name, pretrained, {"in_chans": self.image_shape[0], **(options or {})})
        mean, std = _scale(self.backbone, self.image_shape[0]) if pretrained else (0.0, 1.0)
        self.register_buffer("mean", torch.as_tensor(mean).reshape(-1, 1, 1))
        self.register_buffer("std", torch.as_tensor(std).reshape(-1, 1, 1))
        self.project = nn.Linear(self.backbone.num_features, embedding_size)
        if self.heads & {"logits", "probabilities"}:
            self.classify = nn.Linear(embedding_size, classes_of_logits(self, num_classes))

    def forward(self, frame: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the entries that the model adds to the frame."""
        image = read(self, frame, "image", self.image_shape)
        try:
            features = self.project(self.backbone((image - self.mean) / self.std))
        except AssertionError as error:  # of a transformer, which wants images of one size
            raise InputError(f"model.name={self.name}: {error}; set it by +model.options.img_size=32") from error
        entries = {"features": features, "embeddings": F.normalize(features, dim=1, eps=1e-6)}
        if self.heads & {"logits", "probabilities"}:
            entries["logits"] = self.classify(features)
        if "probabilities" in self.heads:
            entries["probabilities"] = entries["logits"].softmax(dim=1)
        if "activity" in self.heads:
            entries["activity"] = features.square().mean(dim=1)
        return entries


def _backbone(name: str, pretrained: bool, options: dict[str, Any]) -> Any:
    """Make a network without a classifier; weights that cannot be loaded are random, with a warning."""
    try:
        import timm  # noqa: PLC0415 - an optional dependency
    except ImportError as error:
        raise InputError(f"model=timm reads its networks from timm ({error}): pip install lossframe[timm]") from error
    refused = None
    if pretrained and not torch.empty(0).is_meta:  # on the meta device only the number of parameters is wanted
        try:
            return timm.create_model(name, pretrained=True, num_classes=0, **options)
        except Exception as error:  # of the network, the hub or timm
            refused = " ".join(str(error).split())
    try:
        model = timm.create_model(name, num_classes=0, **options)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        near = nearest(name.partition(".")[0], timm.list_models())
        raise InputError(f"model.name={name}: {error}; wanted a network and options that timm has.{near}") from error
    if refused is not None:
        warnings.warn(
            f"model.name={name}: the pretrained weights cannot be loaded, so that the weights are random ({refused}). "
            "A checkpoint replaces them; model.pretrained=false does without",
            stacklevel=4,
        )
    return model


def _scale(backbone: Any, channels: int) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation, for each channel, of the images that a network was trained on."""
    found = [list(backbone.pretrained_cfg.get(key) or [default]) for key, default in (("mean", 0.0), ("std", 1.0))]
    mean, std = ([sum(each) / len(each)] * channels if len(each) != channels else each for each in found)
    return mean, std
