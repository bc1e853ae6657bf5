"""Dice losses of other libraries, on images `[N, C, H, W]`."""

import torch
from torch import Tensor
from torch.nn import functional as F

from peers.row import Inputs, Row, bits, normal, uniform

N, C, SIZE = 3, 4, (2, 4)
IGNORED = 255


def classes() -> Tensor:
    """Return class indices, all classes in each image."""
    return torch.arange(8).reshape(SIZE).repeat(N, 1, 1) % C


def indexed() -> Inputs:
    """Return logits and class indices."""
    return {"logits": normal(N, C, *SIZE), "target": classes()}


def ignoring() -> Inputs:
    """Return logits and class indices, of which some are ignored."""
    target = classes()
    target[:, 0, 1:3] = IGNORED
    return {"logits": normal(N, C, *SIZE), "target": target}


def labelled() -> Inputs:
    """Return logits and several labels for each pixel."""
    return {"logits": normal(N, C, *SIZE), "target": bits(N, C, *SIZE)}


def one_channel() -> Inputs:
    """Return logits of one channel and zeros and ones."""
    return {"logits": normal(N, 1, *SIZE), "target": bits(N, 1, *SIZE).long()}


def chances() -> Inputs:
    """Return probabilities and several labels for each pixel."""
    return {"logits": uniform(N, C, *SIZE), "target": bits(N, C, *SIZE)}


def flat() -> Inputs:
    """Return probabilities of one channel and one image, as a loss over all pixels of all channels reads them."""
    return {"logits": uniform(1, 1, 40), "target": bits(1, 1, 40)}


def hot(target: Tensor) -> Tensor:
    """Return one-hot targets on dim 1."""
    return F.one_hot(target, C).movedim(-1, 1).double()


def monai(p: Tensor, y: Tensor, batch: bool = False, smooth_nr: float = 1e-5, smooth_dr: float = 1e-5) -> Tensor:
    """Return 1 - (2 tp + s) / (2 tp + fp + fn + s) for each image and class, or for each class."""
    dims = (0, 2, 3) if batch else (2, 3)
    tp, fp, fn = (p * y).sum(dims), (p * (1 - y)).sum(dims), ((1 - p) * y).sum(dims)
    return 1 - (2 * tp + smooth_nr) / (2 * tp + fp + fn + smooth_dr)


def monai_softmax(
    z: Tensor, t: Tensor, batch: bool = False, smooth_nr: float = 1e-5, smooth_dr: float = 1e-5
) -> Tensor:
    """Return MONAI's Dice of a softmax and of one-hot targets."""
    return monai(z.softmax(1), hot(t), batch, smooth_nr, smooth_dr)


def monai_sigmoid(
    z: Tensor, y: Tensor, batch: bool = False, smooth_nr: float = 1e-5, smooth_dr: float = 1e-5
) -> Tensor:
    """Return MONAI's Dice of a sigmoid."""
    return monai(z.sigmoid(), y, batch, smooth_nr, smooth_dr)


def models(p: Tensor, y: Tensor, smooth: float = 0.0, eps: float = 1e-7) -> Tensor:
    """Return the Dice of segmentation-models, for each class of the batch; 0 for a class that no target has."""
    overlap, size = (p * y).sum((0, 2, 3)), (p + y).sum((0, 2, 3))
    return (1 - (2 * overlap + smooth) / (size + smooth).clamp_min(eps)) * (y.sum((0, 2, 3)) > 0)


def models_ignoring(z: Tensor, t: Tensor) -> Tensor:
    """Return the same of a softmax, without the ignored pixels."""
    counted = (t != IGNORED).unsqueeze(1)
    return models(z.softmax(1) * counted, hot(t * counted[:, 0]) * counted)


def optax(p: Tensor, y: Tensor, smooth: float = 1.0, alpha: float = 0.5, beta: float = 0.5) -> Tensor:
    """Return the Dice of optax, whose overlap is not doubled; the mean over the classes of each image."""
    overlap, of_p, of_y = (p * y).sum((2, 3)), p.sum((2, 3)), y.sum((2, 3))
    denominator = overlap + alpha * (of_p - overlap) + beta * (of_y - overlap) + smooth
    return (1 - (overlap + smooth) / denominator).mean(1)


def kornia(z: Tensor, t: Tensor, average: str = "micro", eps: float = 1e-8) -> Tensor:
    """Return the Dice of kornia, over the pixels and classes of an image, or over the pixels alone."""
    p, y = z.softmax(1), hot(t)
    dims = (1, 2, 3) if average == "micro" else (2, 3)
    return 1 - 2 * (p * y).sum(dims) / ((p + y).sum(dims) + eps)


SMOOTH = "the eps there is not in the numerator"
BATCH = "over the batch; a class that no target has costs nothing there"
ROWS = [
    Row("Keras", "Dice()", "DiceLoss(smooth=1e-7, batch=True, activation=None)",
        lambda p, y: 1 - 2 * (p * y).sum() / (p.sum() + y.sum() + 1e-7), flat, "sum_over_batch_size",
        note="over all pixels and channels of the batch: of one channel here", rtol=1e-5),
    Row("MONAI", "DiceLoss()", "DiceLoss(smooth=1e-5, activation=None)", monai, chances,
        note="reads probabilities there unless told otherwise"),
    Row("MONAI", "DiceLoss(softmax=True, to_onehot_y=True)", "DiceLoss(smooth=1e-5)", monai_softmax, indexed,
        note="targets `[N, H, W]` here, `[N, 1, H, W]` there"),
    Row("MONAI", "DiceLoss(softmax=True, to_onehot_y=True, batch=True)", "DiceLoss(smooth=1e-5, batch=True)",
        lambda z, t, smooth_nr=1e-5, smooth_dr=1e-5: monai_softmax(z, t, True, smooth_nr, smooth_dr), indexed),
    Row("MONAI", "DiceLoss(sigmoid=True)", 'DiceLoss(smooth=1e-5, activation="sigmoid")', monai_sigmoid, labelled,
        note="several labels for each pixel"),
    Row("MONAI", "DiceLoss(sigmoid=True) of one channel", 'DiceLoss(smooth=1e-5, activation="sigmoid")', monai_sigmoid,
        one_channel),
    Row("segmentation-models", 'DiceLoss("multiclass")', "DiceLoss(smooth=1e-7, batch=True)",
        lambda z, t, smooth=0.0, eps=1e-7: models(z.softmax(1), hot(t), smooth, eps), indexed, note=BATCH, rtol=1e-5),
    Row("segmentation-models", f'DiceLoss("multiclass", ignore_index={IGNORED})',
        f"DiceLoss(smooth=1e-7, batch=True, ignore_index={IGNORED})", models_ignoring, ignoring, rtol=1e-5,
        note=BATCH),
    Row("segmentation-models", 'DiceLoss("multilabel")', 'DiceLoss(smooth=1e-7, batch=True, activation="sigmoid")',
        lambda z, y, smooth=0.0, eps=1e-7: models(z.sigmoid(), y, smooth, eps), labelled, note=BATCH, rtol=1e-5),
    Row("segmentation-models", 'DiceLoss("binary")', 'DiceLoss(smooth=1e-7, batch=True, activation="sigmoid")',
        lambda z, y, smooth=0.0, eps=1e-7: models(z.sigmoid(), y, smooth, eps), one_channel, note=BATCH, rtol=1e-5),
    Row("optax", "dice_loss()", "DiceLoss(smooth=2.0)",
        lambda z, t, smooth=1.0, alpha=0.5, beta=0.5: optax(z.softmax(1), hot(t), smooth, alpha, beta), indexed, "none",
        "here.mean(1)", note="smooth is half of that here; one value per image"),
    Row("optax", "binary_dice_loss()", 'DiceLoss(smooth=2.0, activation="sigmoid")',
        lambda z, y, smooth=1.0: optax(z.sigmoid(), y, smooth), one_channel, "none", "here.mean(1)",
        note="smooth is half of that here"),
    Row("kornia", 'dice_loss(average="macro")', "DiceLoss(smooth=1e-8)",
        lambda z, t, eps=1e-8: kornia(z, t, "macro", eps), indexed, note=SMOOTH, rtol=1e-5),
]  # fmt: skip
