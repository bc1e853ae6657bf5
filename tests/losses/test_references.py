"""Losses equal torch's where torch has them, and plain loops over their formula elsewhere."""

from collections.abc import Callable
from itertools import combinations, product

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lossframe import Loss, losses

N, C, D = 6, 4, 5


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def uniform(*shape: int) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64)


def classes(*shape: int) -> Tensor:
    return torch.randint(0, C, shape)


def bits(*shape: int) -> Tensor:
    return torch.randint(0, 2, shape).double()


CLASS_WEIGHT = torch.tensor([0.5, 1.0, 2.0, 0.1], dtype=torch.float64)

Case = tuple[str, Loss, Callable[..., Tensor], Callable[[], tuple[Tensor, ...]]]
TORCH: list[Case] = [
    ("l1", losses.L1Loss(), nn.L1Loss(), lambda: (normal(N, D), normal(N, D))),
    ("l1 sum", losses.L1Loss(reduction="sum"), nn.L1Loss(reduction="sum"), lambda: (normal(N), normal(N))),
    ("l1 none", losses.L1Loss(reduction="none"), nn.L1Loss(reduction="none"), lambda: (normal(N), normal(N))),
    ("mse", losses.MSELoss(), nn.MSELoss(), lambda: (normal(N, D, 2), normal(N, D, 2))),
    ("huber", losses.HuberLoss(delta=0.7), nn.HuberLoss(delta=0.7), lambda: (normal(N, D), normal(N, D))),
    ("gaussian_nll", losses.GaussianNLLLoss(), nn.GaussianNLLLoss(),
     lambda: (normal(N, D), normal(N, D), uniform(N, D) + 0.1)),
    ("cosine", losses.CosineDistanceLoss(normalize=True),
     lambda p, t: (1 - F.cosine_similarity(p, t)).mean(), lambda: (normal(N, D), normal(N, D))),
    ("pairwise", losses.MeanPairwiseSquaredErrorLoss(), lambda p, t: 2 * (p - t).flatten(1).var(1).mean(),
     lambda: (normal(N, D, 2), normal(N, D, 2))),
    ("cross_entropy", losses.CrossEntropyLoss(), nn.CrossEntropyLoss(), lambda: (normal(N, C), classes(N))),
    ("cross_entropy pixels", losses.CrossEntropyLoss(), nn.CrossEntropyLoss(),
     lambda: (normal(N, C, 2, 3), classes(N, 2, 3))),
    ("cross_entropy smooth", losses.CrossEntropyLoss(label_smoothing=0.1), nn.CrossEntropyLoss(label_smoothing=0.1),
     lambda: (normal(N, C), classes(N))),
    ("cross_entropy soft", losses.CrossEntropyLoss(), nn.CrossEntropyLoss(),
     lambda: (normal(N, C), normal(N, C).softmax(1))),
    ("cross_entropy weighted", losses.CrossEntropyLoss(class_weight=CLASS_WEIGHT, reduction="weighted_mean"),
     nn.CrossEntropyLoss(CLASS_WEIGHT), lambda: (normal(N, C), classes(N))),
    ("cross_entropy soft weighted", losses.CrossEntropyLoss(class_weight=CLASS_WEIGHT.tolist()),
     nn.CrossEntropyLoss(CLASS_WEIGHT), lambda: (normal(N, C), normal(N, C).softmax(1))),
    ("cross_entropy ignored", losses.CrossEntropyLoss(ignore_index=0), nn.CrossEntropyLoss(ignore_index=0),
     lambda: (normal(N, C), torch.tensor([0, 1, 2, 0, 3, 1]))),
    ("categorical_cross_entropy", losses.CategoricalCrossEntropyLoss(), lambda p, t: F.nll_loss(p.log(), t),
     lambda: (normal(N, C).softmax(1), classes(N))),
    ("binary_cross_entropy", losses.BinaryCrossEntropyLoss(), nn.BCEWithLogitsLoss(),
     lambda: (normal(N, C), uniform(N, C))),
    ("binary_cross_entropy weighted", losses.BinaryCrossEntropyLoss(pos_weight=CLASS_WEIGHT),
     nn.BCEWithLogitsLoss(pos_weight=CLASS_WEIGHT), lambda: (normal(N, C), bits(N, C))),
    ("log", losses.LogLoss(eps=1e-12), nn.BCELoss(), lambda: (uniform(N, C) * 0.9 + 0.05, bits(N, C))),
    ("hinge", losses.HingeLoss(labels="signed"), lambda p, t: nn.MarginRankingLoss(margin=1)(p, torch.zeros_like(p), t),
     lambda: (normal(N), bits(N) * 2 - 1)),
    ("focal at 0", losses.FocalLoss(gamma=0), nn.CrossEntropyLoss(), lambda: (normal(N, C), classes(N))),
    ("binary_focal at 0", losses.BinaryFocalLoss(gamma=0, alpha=None), nn.BCEWithLogitsLoss(),
     lambda: (normal(N, C), uniform(N, C))),
]  # fmt: skip


@pytest.mark.parametrize(("ours", "theirs", "make"), [row[1:] for row in TORCH], ids=[row[0] for row in TORCH])
def test_loss_equals_that_of_torch(
    ours: Loss, theirs: Callable[..., Tensor], make: Callable[[], tuple[Tensor, ...]]
) -> None:
    inputs = make()
    first = inputs[0].requires_grad_()
    found, wanted = ours(*inputs), theirs(*inputs)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(
        torch.autograd.grad(found.sum(), first), torch.autograd.grad(wanted.sum(), first), rtol=1e-10, atol=1e-12
    )


def focal(logits: Tensor, target: Tensor) -> list[Tensor]:
    p = logits.softmax(1)
    return [CLASS_WEIGHT[t] * (1 - p[n, t]) ** 0.5 * -p[n, t].log() for n, t in enumerate(target)]


def binary_focal(logits: Tensor, target: Tensor) -> list[Tensor]:
    p = logits.sigmoid()
    return [
        -0.25 * (1 - p[i]) ** 2 * p[i].log() if target[i] else -0.75 * p[i] ** 2 * (1 - p[i]).log()
        for i in range(len(target))
    ]


def dice(logits: Tensor, target: Tensor) -> list[Tensor]:
    p = logits.softmax(1)
    result = []
    for n, c in product(range(len(target)), range(C)):
        there = (target[n] == c).double()
        result.append(1 - (2 * (p[n, c] * there).sum() + 1) / (p[n, c].sum() + there.sum() + 1))
    return result


def batch_dice(logits: Tensor, target: Tensor) -> list[Tensor]:
    p = logits.softmax(1)
    shares = []
    for c in range(C):
        there = (target == c).double()
        shares.append(1 - (2 * (p[:, c] * there).sum() + 1) / (p[:, c].sum() + there.sum() + 1))
    return shares


def pairwise(prediction: Tensor, target: Tensor) -> list[Tensor]:
    d = (prediction - target).flatten(1)
    pairs = list(combinations(range(d.shape[1]), 2))
    return [sum((row[i] - row[j]) ** 2 for i, j in pairs) / len(pairs) for row in d]


def quantile(prediction: Tensor, target: Tensor) -> list[Tensor]:
    return [0.9 * (t - p) if t > p else 0.1 * (p - t) for p, t in zip(prediction, target, strict=True)]


def kappa(probabilities: Tensor, target: Tensor) -> list[Tensor]:
    p = probabilities.square() / probabilities.square().sum(1, keepdim=True)
    share = torch.stack([(target == c).double().sum() for c in range(C)])
    observed = sum(p[n, i] * (i - t) ** 2 for n, t in enumerate(target.tolist()) for i in range(C))
    chance = sum(p[:, i].sum() * share[j] * (i - j) ** 2 for i in range(C) for j in range(C)) / len(target)
    return [observed / chance - 1]


def roc_auc(scores: Tensor, target: Tensor) -> list[Tensor]:
    pairs = product(scores[target > 0], scores[target == 0])
    return [(0.4 - (x - y)).clamp_min(0) ** 2 for x, y in pairs]


def gray_mixture(parameters: Tensor, image: Tensor) -> list[Tensor]:
    result = []
    for n in range(len(image)):
        nll = 0.0
        for h, w in product(*map(range, image.shape[2:])):
            logits, means, scales = parameters[n, :, h, w].reshape(3, 2)
            x, scales = image[n, 0, h, w], scales.clamp_min(-7).exp()
            above = 1.0 if x > 0.999 else ((x + 1 / 255 - means) / scales).sigmoid()
            below = 0.0 if x < -0.999 else ((x - 1 / 255 - means) / scales).sigmoid()
            nll = nll - (logits.softmax(0) * (above - below)).sum().log()
        result.append(nll)
    return result


LOOPS: list[Case] = [
    ("focal", losses.FocalLoss(gamma=0.5, alpha=CLASS_WEIGHT), focal, lambda: (normal(N, C), classes(N))),
    ("binary_focal", losses.BinaryFocalLoss(), binary_focal, lambda: (normal(N), bits(N))),
    ("dice", losses.DiceLoss(), dice, lambda: (normal(N, C, 2, 3), classes(N, 2, 3))),
    ("dice batch", losses.DiceLoss(batch=True), batch_dice, lambda: (normal(N, C, 7), classes(N, 7))),
    ("pairwise", losses.MeanPairwiseSquaredErrorLoss(), pairwise, lambda: (normal(N, D), normal(N, D))),
    ("quantile", losses.QuantileLoss(quantile=0.9), quantile, lambda: (normal(N), normal(N))),
    ("kappa", losses.QuadraticWeightedKappaLoss(C, power=2), kappa, lambda: (uniform(N, C), classes(N))),
    ("roc_auc", losses.ROCAUCLoss(margin=0.4, power=2), roc_auc, lambda: (normal(20), bits(20))),
    ("gray mixture", losses.DiscretizedLogisticMixtureLoss(num_mixtures=2), gray_mixture,
     lambda: (normal(3, 6, 2, 2), (normal(3, 1, 2, 2)).clamp(-1, 1))),
]  # fmt: skip


@pytest.mark.parametrize(("ours", "loop", "make"), [row[1:] for row in LOOPS], ids=[row[0] for row in LOOPS])
def test_loss_equals_plain_loops(ours: Loss, loop: Callable, make: Callable[[], tuple[Tensor, ...]]) -> None:
    inputs = make()
    first = inputs[0].requires_grad_()
    found, wanted = ours(*inputs), torch.stack(loop(*inputs)).mean()
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(
        torch.autograd.grad(found, first), torch.autograd.grad(wanted, first), rtol=1e-9, atol=1e-12
    )
