"""All losses of `torch.nn`."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from conformance.case import C, Case, D, Inputs, N, classes, scores, shares


def _signs(*shape: int) -> Tensor:
    return 2.0 * torch.randint(0, 2, (N, *shape)) - 1


def _weight() -> Tensor:
    return torch.tensor([1.0, 2.0, 0.5, 3.0])


def _sequences() -> Inputs:
    lengths = torch.randint(1, 4, (N,))
    return torch.randn(9, N, C).log_softmax(2), torch.randint(1, C, (N, 3)), torch.full((N,), 9), lengths


def _ignoring() -> Inputs:
    target = classes(3)
    target[0] = -100
    return scores(C, 3), target


CASES = [
    Case("L1Loss", nn.L1Loss, lambda: (scores(D), scores(D))),
    Case("MSELoss", nn.MSELoss, lambda: (scores(D), scores(D))),
    Case("SmoothL1Loss", nn.SmoothL1Loss, lambda: (scores(D), scores(D))),
    Case("HuberLoss", nn.HuberLoss, lambda: (scores(D), scores(D))),
    Case("CrossEntropyLoss", lambda: nn.CrossEntropyLoss(_weight(), label_smoothing=0.1), _ignoring),
    Case("NLLLoss", lambda: nn.NLLLoss(_weight()), lambda: (scores(C).log_softmax(1), classes())),
    Case("CTCLoss", nn.CTCLoss, _sequences, batch_dims=(1, 0)),
    Case("PoissonNLLLoss", nn.PoissonNLLLoss, lambda: (scores(D), shares(D))),
    Case("GaussianNLLLoss", nn.GaussianNLLLoss, lambda: (scores(D), scores(D), shares(D) + 0.1), differentiable=(0, 2)),
    Case(
        "KLDivLoss",
        lambda: nn.KLDivLoss(reduction="batchmean"),
        lambda: (scores(C).log_softmax(1), scores(C).softmax(1)),
    ),
    Case("BCELoss", nn.BCELoss, lambda: (shares(D), shares(D))),
    Case("BCEWithLogitsLoss", nn.BCEWithLogitsLoss, lambda: (scores(D), shares(D))),
    Case("MarginRankingLoss", nn.MarginRankingLoss, lambda: (scores(), scores(), _signs()), differentiable=(0, 1)),
    Case("HingeEmbeddingLoss", nn.HingeEmbeddingLoss, lambda: (scores(D), _signs(D))),
    Case("MultiLabelMarginLoss", nn.MultiLabelMarginLoss, lambda: (scores(C), torch.tensor([[0, 2, -1, 1]] * N))),
    Case("MultiLabelSoftMarginLoss", nn.MultiLabelSoftMarginLoss, lambda: (scores(C), shares(C).round())),
    Case("MultiMarginLoss", nn.MultiMarginLoss, lambda: (scores(C), classes())),
    Case("SoftMarginLoss", nn.SoftMarginLoss, lambda: (scores(D), _signs(D))),
    Case(
        "CosineEmbeddingLoss", nn.CosineEmbeddingLoss, lambda: (scores(D), scores(D), _signs()), differentiable=(0, 1)
    ),
    Case(
        "TripletMarginLoss", nn.TripletMarginLoss, lambda: (scores(D), scores(D), scores(D)), differentiable=(0, 1, 2)
    ),
    Case(
        "TripletMarginWithDistanceLoss",
        lambda: nn.TripletMarginWithDistanceLoss(distance_function=lambda a, b: 1 - F.cosine_similarity(a, b)),
        lambda: (scores(D), scores(D), scores(D)),
        differentiable=(0, 1, 2),
    ),
    Case(
        "AdaptiveLogSoftmaxWithLoss",
        lambda: nn.AdaptiveLogSoftmaxWithLoss(D, C, [2, 3], div_value=2),
        lambda: (scores(D), classes()),
    ),
]
if hasattr(nn, "LinearCrossEntropyLoss"):  # since torch 2.13
    CASES.append(
        Case(
            "LinearCrossEntropyLoss",
            lambda: nn.LinearCrossEntropyLoss(D, C),
            lambda: (scores(D), classes()),
            note="its values would take the memory that it saves",
        )
    )
