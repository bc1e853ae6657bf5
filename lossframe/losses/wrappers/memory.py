"""Compares the samples of a batch also with those of earlier batches."""

from collections.abc import Mapping
from typing import Any, Unpack

import torch
from torch import Tensor

from lossframe import saved
from lossframe.errors import InputError
from lossframe.losses.base import checks
from lossframe.losses.base.loss import Loss
from lossframe.losses.base.options import LossOptions
from lossframe.losses.metric_learning import MetricLearning
from lossframe.losses.wrappers.wrapper import Wrapper


class CrossBatchMemory(Wrapper):
    r"""A loss of embeddings and labels whose anchors, the batch, are compared with the batch and with a queue.

    The queue holds the last `size` embeddings of earlier training batches and their labels, in the buffers `embeddings`
    `[size, num_features]` and `labels` `[size]`. They get no gradient. The queue is used after `warmup` training calls,
    until which a model changes too fast, and only in training: in evaluation the loss is the wrapped one.
    The wrapped loss is one of embeddings and labels of this package, such as `SupConLoss`: its formula over all
    rows, with the values of the anchors alone. Samples that have a weight of 0, or are not finite, are not stored.

    Reads `embeddings` `[N, num_features]`, integer `labels` `[N]` and optionally `keys` `[N, num_features]`, which are
    compared with and stored in place of the embeddings: those of a momentum encoder, with a label for each sample, make
    the queue that of MoCo, where the batch gives negatives too. All ranks hold one queue, of the batches of all ranks.
    Source: Wang (2020), https://arxiv.org/abs/1912.06798; He (2020), https://arxiv.org/abs/1911.05722.

    >>> from lossframe.losses import ContrastiveLoss
    >>> criterion = CrossBatchMemory(ContrastiveLoss(), size=4, num_features=1)
    >>> criterion(torch.tensor([[0.0], [0.5]]), torch.tensor([0, 0]))
    tensor(0.1250)
    >>> criterion(torch.tensor([[1.0]]), torch.tensor([0]))  # against 0 and 0.5
    tensor(0.3125)
    >>> criterion.labels
    tensor([0, 0, 0, 0])
    """

    embeddings: Tensor
    labels: Tensor
    wrapped: MetricLearning

    def __init__(
        self, loss: Loss, size: int, num_features: int, warmup: int = 0, **options: Unpack[LossOptions]
    ) -> None:
        super().__init__(loss, **options)
        if not isinstance(loss, MetricLearning):
            raise InputError(
                f"CrossBatchMemory: wanted a loss of embeddings and labels of lossframe, such as SupConLoss(), found a "
                f"{type(loss).__name__}, which tells no anchors apart"
            )
        self.reads, self.optional = ("embeddings", "labels", "keys"), frozenset(["keys"])
        self.size = checks.at_least(1, size=size)
        self.num_features = checks.at_least(1, num_features=num_features)
        self.warmup = checks.at_least(0, warmup=warmup)
        self.register_buffer("embeddings", torch.zeros(size, num_features))
        self.register_buffer("labels", torch.zeros(size, dtype=torch.int64))
        self.held = self.calls = 0

    def check(self, embeddings: Tensor, labels: Tensor, keys: Tensor | None = None) -> None:
        """Require floating embeddings and keys `[N, num_features]`, and integer labels `[N]` or `[N, 1]`."""
        self.wrapped.check(embeddings, labels)
        checks.size(1, self.num_features, embeddings=embeddings)
        if keys is not None:
            checks.floating(keys=keys)
            checks.same_shape(embeddings=embeddings, keys=keys)

    def check_values(self, embeddings: Tensor, labels: Tensor, keys: Tensor | None = None) -> None:
        """Require nothing of the values: any label is a class."""

    def counts(self, embeddings: Tensor, labels: Tensor, keys: Tensor | None = None) -> Tensor | None:
        """Return the counts of the anchors."""
        return self._anchors(self.wrapped.counts, embeddings, labels, keys)  # type: ignore[no-any-return]

    def loss(self, embeddings: Tensor, labels: Tensor, keys: Tensor | None = None) -> Tensor:
        """Return one value per sample of the batch."""
        return self._anchors(self.wrapped.loss, embeddings, labels, keys)  # type: ignore[no-any-return]

    @torch.no_grad()
    def update(self, embeddings: Tensor, labels: Tensor, keys: Tensor | None = None) -> None:
        """Store the batch in front of the queue."""
        stored, labels = (embeddings if keys is None else keys).detach(), labels.reshape(-1)
        finite = stored.isfinite().all(1)
        if not bool(finite.all()):
            stored, labels = stored[finite], labels[finite]
        self.embeddings.copy_(torch.cat([stored.to(self.embeddings.dtype), self.embeddings])[: self.size])
        self.labels.copy_(torch.cat([labels, self.labels])[: self.size])
        self.held = min(self.held + len(stored), self.size)
        self.calls += 1

    def get_extra_state(self) -> dict[str, int]:
        """Return how many rows of the queue are in use, and the number of training calls."""
        return {"held": self.held, "calls": self.calls}

    def set_extra_state(self, state: Mapping[str, int]) -> None:
        """Restore what `get_extra_state` has returned."""
        saved.check(state, {"held": int, "calls": int}, type(self).__name__)
        self.held, self.calls = min(state["held"], self.size), state["calls"]

    def _anchors(self, of: Any, embeddings: Tensor, labels: Tensor, keys: Tensor | None) -> Any:
        """Return a method's result for the batch, which is compared with itself, the keys and the queue."""
        held = self.held if self.training and self.calls >= self.warmup else 0
        rows = [embeddings, *([] if keys is None else [keys]), self.embeddings[:held].to(embeddings.dtype)]
        labels = labels.reshape(-1)
        everyone = [labels, *([] if keys is None else [labels]), self.labels[:held]]
        self.wrapped.anchors = len(embeddings)
        try:
            return of(torch.cat(rows), torch.cat(everyone))
        finally:
            self.wrapped.anchors = None
