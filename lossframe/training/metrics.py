"""Computes metrics of a whole split, which are the same for any batches and ranks."""

from abc import ABC
from typing import Any, ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from lossframe.errors import InputError

_QUERIES_AT_ONCE = 256


class SplitMetric(Metric, ABC):
    """Abstract base: keeps entries of all samples, and computes a metric from those of all ranks."""

    full_state_update = False
    higher_is_better = True
    kept: ClassVar[dict[str, torch.dtype]]
    """The entries that `update` appends, name -> dtype; each is stored flat."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for name in self.kept:
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def sync(self, *args: Any, **options: Any) -> None:
        """Gather the samples of all ranks; a rank without samples adds empty tensors of the dtypes that others send."""
        self._append_empty_tensors()
        super().sync(*args, **options)

    def _append(self, **entries: Tensor) -> None:
        # Embeddings are stored flat, so that a rank without samples needs no embedding size.
        for name, entry in entries.items():
            getattr(self, name).append(entry.detach().to(self.kept[name]).flatten())

    def _append_empty_tensors(self) -> None:
        first: Any = getattr(self, next(iter(self.kept)))
        if isinstance(first, list) and not first:
            self._append(**{name: torch.zeros(0, device=self.device) for name in self.kept})

    def _entry(self, name: str) -> Tensor:
        gathered: Tensor = dim_zero_cat(getattr(self, name))
        return gathered


class AUROC(SplitMetric):
    """Computes the area under the ROC curve: how often a sample of class 1 has a higher score than one of class 0.

    Scores are any numbers, such as logits, and are compared as they are; a tie counts one half. The area is NaN
    if a class has no sample or a score is NaN.

    torchmetrics' own class passes each batch of scores beyond [0, 1] through a sigmoid, which makes scores of
    different batches incomparable, and large ones equal.

    >>> metric = AUROC()
    >>> metric.update(torch.tensor([0.2, 0.9]), labels=torch.tensor([0, 1]))
    >>> metric.update(torch.tensor([40.0, 30.0]), labels=torch.tensor([1, 0]))
    >>> metric.compute().item()
    0.75
    """

    kept: ClassVar = {"scores": torch.float64, "labels": torch.int64}

    def update(self, scores: Tensor, labels: Tensor) -> None:
        """Add samples: `scores` [N], and `labels` [N], 0 or 1."""
        if scores.ndim != 1 or labels.shape != scores.shape:
            raise InputError(
                f"AUROC reads scores [N] and labels [N], but was given {list(scores.shape)} and {list(labels.shape)}"
            )
        self._append(scores=scores, labels=labels)

    def compute(self) -> Tensor:
        """Return the area over all samples of all ranks."""
        self._append_empty_tensors()
        scores, labels = self._entry("scores"), self._entry("labels")
        if others := set(labels.unique().tolist()) - {0, 1}:
            raise InputError(f"AUROC wanted labels 0 and 1, found {sorted(others)}: choose another metric")
        if scores.isnan().any():
            return scores.new_full((), torch.nan)
        _, place, ties = scores.unique(return_inverse=True, return_counts=True)
        twice_ranks = (2 * ties.cumsum(0) - ties + 1)[place]
        positive = labels.sum()
        twice_pairs = 2 * positive * (len(labels) - positive)
        area: Tensor = (twice_ranks[labels == 1].sum() - positive * (positive + 1)) / twice_pairs.double()
        return area


class R2Score(Metric):
    """Computes the share of the target's variance that predictions explain, over all values of all outputs.

    `1 - sum (t - p)^2 / sum (t - mean t)^2`, where all values of `t` have one mean. An average over outputs would
    give outputs that hardly vary as much weight as others. Of a constant target it is 1 if the prediction is exact,
    else 0, as in scikit-learn, and of fewer than two values NaN.

    >>> metric = R2Score()
    >>> metric.update(torch.tensor([[1.0, 2.0], [3.0, 3.0]]), target=torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    >>> metric.compute().item()
    0.8
    """

    full_state_update = False
    higher_is_better = True

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.sums: Tensor
        self.add_state("sums", default=torch.zeros(4, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add samples: `prediction` and `target` of one shape [N, ...]."""
        if prediction.shape != target.shape:
            raise InputError(
                f"R2Score reads prediction and target of one shape, but was given {list(prediction.shape)} and "
                f"{list(target.shape)}"
            )
        wanted, error = target.detach().double(), (target.double() - prediction.detach().double())
        number = wanted.new_tensor(float(wanted.numel()))
        self.sums = self.sums + torch.stack([number, wanted.sum(), wanted.square().sum(), error.square().sum()])

    def compute(self) -> Tensor:
        """Return the share over all samples of all ranks."""
        number, total, squares, errors = self.sums.unbind()
        spread = squares - total.square() / number
        if number < 2:
            return torch.full_like(number, torch.nan)
        if spread <= 1e-15 * squares:  # of a constant target, what rounding leaves
            return (errors == 0).double()
        return 1 - errors / spread


class RetrievalMetrics(SplitMetric):
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

    kept: ClassVar = {"embeddings": torch.float32, "labels": torch.int64, "index": torch.int64}

    def update(self, embeddings: Tensor, labels: Tensor, index: Tensor) -> None:
        """Add samples: `embeddings` [N, D], `labels` [N], and `index` [N], their ids in the whole data set."""
        if embeddings.ndim != 2 or not labels.shape == index.shape == embeddings.shape[:1]:
            raise InputError(
                f"{type(self).__name__} reads embeddings [N, D], labels [N] and index [N], but was given "
                f"{list(embeddings.shape)}, {list(labels.shape)} and {list(index.shape)}"
            )
        self._append(embeddings=embeddings, labels=labels, index=index)

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

    def _samples(self) -> tuple[Tensor, Tensor]:
        index, order = self._entry("index").sort(stable=True)
        first = torch.cat([index.new_ones(min(1, len(index))), index.diff()]) != 0
        kept = order[first]
        size = max(1, len(index))
        return self._entry("embeddings").view(size, -1)[kept], self._entry("labels")[kept]


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
