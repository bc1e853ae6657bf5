"""Losses with a value per element or pixel, against torch's own criteria and the peers' formulae.

The size is the number of scores. All give a mean and its gradient.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks import formulae
from benchmarks.cases import Case, Contestant, Step, at_sizes
from lossframe import losses

Give = Callable[[int, torch.device], tuple[Tensor, Tensor]]
Formula = Callable[[Tensor, Tensor], Tensor]
SIDE, PIXEL_CLASSES = 363, 19


def of_classes(size: int, device: torch.device, classes: int) -> tuple[Tensor, Tensor]:
    """Return logits `[N, C]`, and class indices."""
    samples = max(1, size // classes)
    logits = torch.randn(samples, classes, device=device, requires_grad=True)
    return logits, torch.randint(0, classes, (samples,), device=device)


def pixels(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return logits of images `[N, 19, 363, 363]`, and the classes of the pixels."""
    shape = (max(1, size // (PIXEL_CLASSES * SIDE**2)), PIXEL_CLASSES, SIDE, SIDE)
    logits = torch.randn(shape, device=device, requires_grad=True)
    return logits, torch.randint(0, PIXEL_CLASSES, (shape[0], SIDE, SIDE), device=device)


def yes_or_no(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return logits `[N, 1]`, and zeros and ones."""
    return torch.randn(size, 1, device=device, requires_grad=True), torch.randint(0, 2, (size, 1), device=device) * 1.0


def numbers(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return predictions, and numbers to predict."""
    return torch.randn(size, device=device, requires_grad=True), torch.randn(size, device=device)


def images(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the parameters of ten mixtures `[N, 100, 32, 32]`, and 8-bit images."""
    samples = max(1, size // (100 * 32**2))
    parameters = torch.randn(samples, 100, 32, 32, device=device, requires_grad=True)
    return parameters, torch.randint(0, 256, (samples, 3, 32, 32), device=device) / 127.5 - 1


def plainly(size: int, device: torch.device, formula: Formula, inputs: Give) -> Step:
    """Prepare the value and gradient of a formula."""
    scores, target = inputs(size, device)
    return lambda: torch.autograd.grad(formula(scores, target), scores)


def ours(
    size: int, device: torch.device, name: str, inputs: Give, recorded: bool, compiled: bool, **options: Any
) -> Step:
    """Prepare the same of one of our losses, with statistics or without."""
    criterion = getattr(losses, name)(compile=compiled, **options)
    if not recorded:
        criterion.accumulate = lambda *args, **kwargs: None
    step = plainly(size, device, criterion, inputs)
    if compiled:
        step()  # what the compiler takes is not the step's
    return step


def kornia_focal(logits: Tensor, target: Tensor) -> Tensor:
    """Return kornia's binary focal loss."""
    from kornia.losses import binary_focal_loss_with_logits

    return binary_focal_loss_with_logits(logits, target, alpha=0.25, gamma=2.0, reduction="mean")


def monai_focal(logits: Tensor, target: Tensor) -> Tensor:
    """Return MONAI's focal loss."""
    from monai.losses import FocalLoss

    return FocalLoss(gamma=2.0, alpha=0.25)(logits, target)


def case(
    title: str, size: int, name: str, inputs: Give, against: dict[str, Formula], compiled: bool = True, **options: Any
) -> list[Case]:
    """Return ours, with and without statistics and compiled, against some formulae."""
    mine = partial(ours, name=name, inputs=inputs, **options)
    contestants = [
        Contestant("lossframe", partial(mine, recorded=False, compiled=False)),
        Contestant("with statistics", partial(mine, recorded=True, compiled=False)),
    ]
    if compiled:
        contestants.append(Contestant("compiled", partial(mine, recorded=False, compiled=True)))
    peers = [Contestant(peer, partial(plainly, formula=formula, inputs=inputs)) for peer, formula in against.items()]
    return at_sizes(title, [size], *contestants, *peers)


FOCAL_OF_PEERS: dict[str, Formula] = {
    "torch's cross-entropy": F.binary_cross_entropy_with_logits,
    "torchvision": formulae.torchvision_focal,
    "MONAI": monai_focal,
    "segmentation-models": formulae.segmentation_models_focal,
    "kornia": kornia_focal,
}


def cases(quick: bool) -> list[Case]:
    """Return the suite."""
    size = 1_000_000 if quick else 10_000_000
    of_torch: dict[str, Formula] = {"torch": F.cross_entropy}
    bce: dict[str, Formula] = {"torch": F.binary_cross_entropy_with_logits}
    result = []
    for classes in (10, 100, 1000, 32_000):
        given = partial(of_classes, classes=classes)
        result += case(f"CrossEntropyLoss, {classes:,} classes", size, "CrossEntropyLoss", given, of_torch)
    result += case("CrossEntropyLoss, 19 classes of pixels", size, "CrossEntropyLoss", pixels, of_torch)
    result += case("BinaryCrossEntropyLoss", size, "BinaryCrossEntropyLoss", yes_or_no, bce)
    result += case("HuberLoss", size, "HuberLoss", numbers, {"torch": F.huber_loss})
    result += case("BinaryFocalLoss", size, "BinaryFocalLoss", yes_or_no, FOCAL_OF_PEERS)
    against = {"torch's cross-entropy": F.cross_entropy}
    result += case("FocalLoss, 10 classes", size, "FocalLoss", partial(of_classes, classes=10), against)
    mixture: dict[str, Formula] = {"plain": formulae.mixture}
    options = {"num_mixtures": 10, "reduction": "batch_mean"}
    name = "DiscretizedLogisticMixtureLoss"
    result += case(name, 1_638_400, name, images, mixture, **options)
    return result
