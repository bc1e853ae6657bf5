"""Computes retrieval metrics, which need the embeddings of a whole split at once."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from lossframe.errors import InputError

_QUERIES_AT_ONCE = 256


class RetrievalMetrics(Metric):
    """Computes `precision_at_1` and `mean_average_precision` with each sample as query and all others as answers.

    Answers are ranked by their dot product with the query, equal ones by id, and are right if their label is the
    query's. A sample that appears twice, such as the padding of a distributed sampler, counts once. Queries without
    a right answer are left out, as in torchmetrics, whose formulae these are; if none is left both values are 0, and
    if an embedding is not finite both are NaN.

    >>> metric = RetrievalMetrics()
    >>> embeddings = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.8, 0.3], [0.0, 1.0]])
    >>> metric.update(embeddings, labels=torch.tensor([0, 0, 1, 1]), index=torch.arange(4))
    >>> {name: round(value.item(), 3) for name, value in metric.compute().items()}
    {'precision_at_1': 0.75, 'mean_average_precision': 0.833}
    """

    full_state_update = False
    higher_is_better = True

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.embeddings: list[Tensor]
        self.labels: list[Tensor]
        self.index: list[Tensor]
        for name in ("embeddings", "labels", "index"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, embeddings: Tensor, labels: Tensor, index: Tensor) -> None:
        """Add samples: `embeddings` [N, D], `labels` [N], and `index` [N], their ids in the whole data set."""
        if embeddings.ndim != 2 or not labels.shape == index.shape == embeddings.shape[:1]:
            raise InputError(
                f"{type(self).__name__} reads embeddings [N, D], labels [N] and index [N], but was given "
                f"{list(embeddings.shape)}, {list(labels.shape)} and {list(index.shape)}"
            )
        self._append(embeddings.detach().float().flatten(), labels, index)

    def compute(self) -> dict[str, Tensor]:
        """Return both metrics over all samples of all ranks."""
        self._append_empty_tensors()
        embeddings, labels = self._samples()
        hits = [_precisions(_right_answers(embeddings, labels, queries)) for queries in _chunks(labels)]
        answered = torch.cat([embeddings.new_zeros(0, 2), *hits])
        means = answered.sum(dim=0) / max(1, len(answered))
        if not embeddings.isfinite().all():
            means = torch.full_like(means, torch.nan)
        return {"precision_at_1": means[0], "mean_average_precision": means[1]}

    def sync(self, *args: Any, **options: Any) -> None:
        """Gather the samples of all ranks; a rank without samples adds empty tensors of the dtypes that others send."""
        self._append_empty_tensors()
        super().sync(*args, **options)

    def _append(self, embeddings: Tensor, labels: Tensor, index: Tensor) -> None:
        # Embeddings are stored flat, so that a rank without samples needs no embedding size.
        for state, entry in ((self.embeddings, embeddings), (self.labels, labels), (self.index, index)):
            state.append(entry)

    def _append_empty_tensors(self) -> None:
        if isinstance(self.index, list) and not self.index:
            ids = torch.zeros(0, dtype=torch.int64, device=self.device)
            self._append(ids.float(), ids, ids)

    def _samples(self) -> tuple[Tensor, Tensor]:
        index, order = dim_zero_cat(self.index).sort(stable=True)
        first = torch.cat([index.new_ones(min(1, len(index))), index.diff()]) != 0
        kept = order[first]
        size = max(1, len(index))
        embeddings = dim_zero_cat(self.embeddings)
        return embeddings.view(size, -1)[kept], dim_zero_cat(self.labels)[kept]


def _chunks(labels: Tensor) -> list[Tensor]:
    rows = torch.arange(len(labels), device=labels.device)
    return [rows[start : start + _QUERIES_AT_ONCE] for start in range(0, len(rows), _QUERIES_AT_ONCE)]


def _right_answers(embeddings: Tensor, labels: Tensor, queries: Tensor) -> Tensor:
    scores = embeddings[queries] @ embeddings.T
    scores[torch.arange(len(queries), device=queries.device), queries] = -torch.inf
    others = scores.argsort(dim=1, descending=True, stable=True)[:, :-1]
    return labels[others] == labels[queries, None]


def _precisions(right: Tensor) -> Tensor:
    right = right[right.any(dim=1)].float()
    places = torch.arange(1, right.shape[1] + 1, device=right.device)
    average = (right * right.cumsum(dim=1) / places).sum(dim=1) / right.sum(dim=1)
    return torch.stack([right[:, :1].sum(dim=1), average], dim=1)
