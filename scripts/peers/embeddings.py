"""Losses of other libraries on embeddings, with labels or with two views of each sample."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from peers.row import Inputs, Row, bits, normal, uniform

N, D = 6, 5


def labelled() -> Inputs:
    """Return embeddings of length 1, three of each class."""
    return {"embeddings": F.normalize(normal(N, D)), "labels": torch.arange(N) % 2}


def viewed() -> Inputs:
    """Return two views of each sample."""
    return {"embeddings": normal(N, D), "views": normal(N, D)}


def stacked() -> Inputs:
    """Return two views of each sample, one after the other, and the numbers of the samples."""
    return {"embeddings": normal(2 * N, D), "labels": torch.arange(N).repeat(2)}


def triplets() -> Inputs:
    """Return anchors, positives and negatives."""
    return {name: normal(N, D) for name in ("anchor", "positive", "negative")}


def pairs() -> Inputs:
    """Return distances, and 1 for pairs of one class."""
    return {"distance": 2 * uniform(N), "target": bits(N)}


def distances(x: Tensor) -> Tensor:
    """Return Euclidean distances between rows, with a finite gradient on the diagonal."""
    squares = (x[:, None] - x).square().sum(2)
    return torch.where(squares > 0, squares.clamp_min(1e-30).sqrt(), 0)


def semi_hard(x: Tensor, labels: Tensor, margin: float = 1.0, distance_metric: str = "L2") -> Tensor:
    """Return the mean over pairs of an anchor and a positive with the nearest farther negative, or the farthest."""
    del distance_metric
    d, hinges = distances(x), []
    for a in range(len(x)):
        negatives = d[a][labels != labels[a]]
        for p in range(len(x)):
            if a != p and labels[a] == labels[p]:
                outside = negatives[negatives > d[a, p]]
                negative = outside.min() if len(outside) else negatives.max()
                hinges.append((d[a, p] - negative + margin).clamp_min(0))
    return torch.stack(hinges).mean()


def hardest(x: Tensor, labels: Tensor, margin: float = 1.0, soft: bool = False, distance_metric: str = "L2") -> Tensor:
    """Return the mean over anchors with their farthest positive and nearest negative."""
    del distance_metric
    d, same = distances(x), labels[:, None] == labels
    far, near = torch.where(same, d, -1).amax(1), torch.where(same, torch.inf, d).amin(1)
    return (F.softplus(far - near) if soft else (far - near + margin).clamp_min(0)).mean()


def contrast(x: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Return the mean over anchors of the mean over their positives of minus the logarithm of the softmax."""
    unit = F.normalize(x)
    itself = torch.eye(len(x), dtype=torch.bool)
    log_p = ((unit @ unit.T) / temperature).masked_fill(itself, -1e9).log_softmax(1)
    positive = (labels[:, None] == labels) & ~itself
    return -((log_p * positive).sum(1) / positive.sum(1)).mean()


def of_views(x: Tensor, views: Tensor, temperature: float) -> Tensor:
    """Return the same of two views of each sample."""
    return contrast(torch.cat([x, views]), torch.arange(len(x)).repeat(2), temperature)


def lightly_supcon(x: Tensor, views: Tensor, temperature: float = 0.5, rescale: bool = True) -> Tensor:
    """Return the supervised contrast of lightly, times the temperature."""
    value = of_views(x, views, temperature)
    return value * temperature if rescale else value


def metric_learning(name: str, **options: float) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a loss of pytorch-metric-learning, which is called as it is."""
    from pytorch_metric_learning import losses

    return getattr(losses, name)(**options)  # type: ignore[no-any-return]


def all_triplets(x: Tensor, labels: Tensor, margin: float = 0.05) -> Tensor:
    """Return the triplet loss of pytorch-metric-learning."""
    return metric_learning("TripletMarginLoss", margin=margin)(x, labels)


def nt_xent(x: Tensor, labels: Tensor, temperature: float = 0.07) -> Tensor:
    """Return the NT-Xent of pytorch-metric-learning."""
    return metric_learning("NTXentLoss", temperature=temperature)(x, labels)


def supcon(x: Tensor, labels: Tensor, temperature: float = 0.1) -> Tensor:
    """Return the supervised contrast of pytorch-metric-learning."""
    return metric_learning("SupConLoss", temperature=temperature)(x, labels)


def self_supervised(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a loss of pytorch-metric-learning on two views."""

    def values(x: Tensor, views: Tensor) -> Tensor:
        from pytorch_metric_learning import losses

        return losses.SelfSupervisedLoss(metric_learning(name))(x, views)  # type: ignore[no-any-return]

    return values


def torch_triplet(
    anchor: Tensor, positive: Tensor, negative: Tensor, margin: float = 1.0, p: float = 2.0, eps: float = 1e-6
) -> Tensor:
    """Return the triplet loss of torch."""
    return nn.TripletMarginLoss(margin, p, eps)(anchor, positive, negative)


def optax_triplet(
    a: Tensor, p: Tensor, n: Tensor, norm_degree: int = 2, margin: float = 1.0, eps: float = 1e-6
) -> Tensor:
    """Return the triplet loss of optax, with an epsilon below the root."""
    near, far = ((a - p).square().sum(1) + eps).sqrt(), ((a - n).square().sum(1) + eps).sqrt()
    del norm_degree
    return (near - far + margin).clamp_min(0)


TRIPLET = 'TripletMarginLoss(margin=1.0, distance="euclidean")'
ROWS = [
    Row("torch", "TripletMarginLoss()", TRIPLET,
        torch_triplet, triplets,
        note="adds an eps to each difference", rtol=1e-5),
    Row("optax", "triplet_margin_loss()", TRIPLET, optax_triplet, triplets, "none", note="adds an eps below the root",
        rtol=1e-5),
    Row("TensorFlow Addons", "TripletSemiHardLoss()", 'BatchSemiHardTripletLoss(margin=1.0, distance="euclidean")',
        semi_hard, labelled),
    Row("TensorFlow Addons", "TripletHardLoss()", 'BatchHardTripletLoss(margin=1.0, distance="euclidean")', hardest,
        labelled, note="anchors without a positive or a negative count there, not here"),
    Row("TensorFlow Addons", "ContrastiveLoss()", "PairContrastiveLoss()",
        lambda d, y, margin=1.0: y * d**2 + (1 - y) * (margin - d).clamp_min(0) ** 2, pairs, "sum_over_batch_size",
        "2 * here"),
    Row("pytorch-metric-learning", "TripletMarginLoss()", 'BatchAllTripletLoss(margin=0.05, distance="euclidean")',
        all_triplets, labelled,
        note="normalises the embeddings: give `F.normalize(embeddings)` here", before=F.normalize),
    Row("pytorch-metric-learning", "NTXentLoss()", "NTXentLoss(temperature=0.07)", nt_xent, stacked,
        note="of more than two views, leaves out the other positives"),
    Row("pytorch-metric-learning", "SupConLoss()", "SupConLoss()", supcon, labelled),
    Row("pytorch-metric-learning", "SelfSupervisedLoss(NTXentLoss())", "NTXentLoss(temperature=0.07)",
        self_supervised("NTXentLoss"), viewed, note="`NTXentLoss()(u, views=v)` here"),
    Row("pytorch-metric-learning", "SelfSupervisedLoss(SupConLoss())", "SupConLoss()", self_supervised("SupConLoss"),
        viewed, note="`SupConLoss()(u, views=v)` here"),
    Row("lightly", "NTXentLoss()", "NTXentLoss(temperature=0.5)",
        lambda x, v, temperature=0.5: of_views(x, v, temperature), viewed, note="`NTXentLoss()(u, views=v)` here"),
    Row("lightly", "SupConLoss()", "SupConLoss(temperature=0.5)", lightly_supcon, viewed, gives="temperature * here"),
    Row("optax", "ntxent()", "NTXentLoss(temperature=0.07)",
        lambda x, labels, temperature=0.07: contrast(x, labels, temperature), stacked,
        note="of more than two views, leaves out the other positives"),
    Row("MONAI", "ContrastiveLoss()", "NTXentLoss(temperature=0.5)",
        lambda x, v, temperature=0.5: of_views(x, v, temperature), viewed, note="`NTXentLoss()(u, views=v)` here"),
]  # fmt: skip
