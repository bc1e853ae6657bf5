"""Metrics of a whole split that no sum over batches can give."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.retrieval import retrieval_average_precision, retrieval_precision
from torchmetrics.utilities import dim_zero_cat

_QUERIES_AT_ONCE = 256


class RetrievalMetrics(Metric):
    """`precision_at_1` and `mean_average_precision`, each sample in turn the query and all others the answers.

    Answers are ranked by their dot product with the query, equal ones by id, and are right if their label is the
    query's. A sample that was given twice, such as the padding of a distributed sampler, counts once. Queries without
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
        self._append(embeddings.detach().float().flatten(), labels, index)

    def compute(self) -> dict[str, Tensor]:
        """Return both values over all samples of all ranks."""
        self._append_nothing_to_nothing()
        embeddings, labels = self._samples()
        ranked = [_right_answers(embeddings, labels, queries) for queries in _chunks(labels)]
        answers = [row for rows in ranked for row in rows[rows.any(dim=1)].cpu()]
        places = torch.arange(len(labels) - 1, 0, -1, dtype=torch.float32)
        broken = not embeddings.isfinite().all()
        values = {
            "precision_at_1": [retrieval_precision(places, row, top_k=1) for row in answers],
            "mean_average_precision": [retrieval_average_precision(places, row) for row in answers],
        }
        return {name: _mean(value, broken).to(labels.device) for name, value in values.items()}

    def sync(self, *args: Any, **options: Any) -> None:
        """Gather the samples of all ranks, also of one that saw none: there torchmetrics would gather wrong dtypes."""
        self._append_nothing_to_nothing()
        super().sync(*args, **options)

    def _append(self, embeddings: Tensor, labels: Tensor, index: Tensor) -> None:
        # The embeddings are kept flat, so that a rank without samples need not know how long one is.
        for state, entry in ((self.embeddings, embeddings), (self.labels, labels), (self.index, index)):
            state.append(entry)

    def _append_nothing_to_nothing(self) -> None:
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


def _mean(values: list[Tensor], broken: bool) -> Tensor:
    if broken:
        return torch.tensor(torch.nan)
    return torch.stack(values).mean() if values else torch.tensor(0.0)
