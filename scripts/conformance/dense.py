"""Losses of MONAI, kornia, segmentation-models-pytorch and timm on images, volumes and class scores.

The last two need torchvision, which has no build for every torch; their losses do not, and are imported without it.
"""

import importlib
import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from conformance.case import C, N, Case, Inputs, classes, scores, shares

SIZE = 8
"""Height and width of images."""
VALUES: dict[str, Any] = {"unreduced": True}
"""Options of a loss whose `reduction` may be "none"."""


def part(package: str, name: str) -> Any:
    """Import a part of an installed package, without the package's own `__init__` if that fails; None if absent."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        return None
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError):
        for loaded in [each for each in sys.modules if each.split(".")[0] in (package, "torchvision")]:
            del sys.modules[loaded]
        stub = types.ModuleType(package)
        stub.__path__ = [str(Path(each)) for each in spec.submodule_search_locations]
        sys.modules[package] = stub
        return importlib.import_module(name)


def _maps() -> Inputs:
    return scores(C, SIZE, SIZE), torch.nn.functional.one_hot(classes(SIZE, SIZE), C).movedim(-1, 1).float()


def _classes() -> Inputs:
    return scores(C, SIZE, SIZE), classes(SIZE, SIZE)


def _binary() -> Inputs:
    return scores(1, SIZE, SIZE), shares(1, SIZE, SIZE).round()


def _images() -> Inputs:
    return shares(1, 16, 16), shares(1, 16, 16)


def _labelled() -> Inputs:
    return scores(C), classes()


def _one_hot() -> Inputs:
    return scores(C), torch.nn.functional.one_hot(classes(), C).float()


def _boxes() -> Inputs:
    corner, size = shares(2, 2), shares(2, 2) + 0.1
    boxes = torch.cat([corner, corner + size], 2)
    return boxes[:, 0], boxes[:, 1]


def _moved() -> Tensor:
    return scores(2, SIZE, SIZE)


def monai() -> list[Case]:
    """Return the cases of MONAI."""
    m = part("monai", "monai.losses")
    if m is None:
        return []
    softmax = {"softmax": True}
    of_maps = {
        "DiceLoss": softmax, "GeneralizedDiceLoss": softmax, "TverskyLoss": softmax, "FocalLoss": {"use_softmax": True},
    }  # fmt: skip
    cases = [Case(name, lambda n=name, o=o: getattr(m, n)(**o), _maps, VALUES) for name, o in of_maps.items()]
    for name in ("DiceCELoss", "DiceFocalLoss", "GeneralizedDiceFocalLoss", "MCCLoss"):
        note = "the reduction of its parts is not its own" if name != "MCCLoss" else "a ratio of sums over the batch"
        cases.append(Case(name, lambda n=name: getattr(m, n)(softmax=True), _maps, note=note))
    return [
        *cases,
        Case("DiceLoss(batch=True)", lambda: m.DiceLoss(softmax=True, batch=True), _maps, note="a ratio over the batch"),
        Case("SSIMLoss", lambda: m.SSIMLoss(2, win_size=5), _images, VALUES),
        Case("LocalNormalizedCrossCorrelationLoss", lambda: m.LocalNormalizedCrossCorrelationLoss(2), _images, VALUES),
        Case("GlobalMutualInformationLoss", m.GlobalMutualInformationLoss, _images, VALUES),
        Case("BendingEnergyLoss", m.BendingEnergyLoss, lambda: (_moved(),), VALUES),
        Case("DiffusionLoss", m.DiffusionLoss, lambda: (_moved(),), VALUES),
        Case("JukeboxLoss", lambda: m.JukeboxLoss(2), _images, note="it does not look at samples"),
        Case("BarlowTwinsLoss", m.BarlowTwinsLoss, lambda: (scores(6), scores(6)), differentiable=(0, 1), note="a correlation over the batch"),
        Case("ContrastiveLoss", m.ContrastiveLoss, lambda: (scores(6), scores(6)), differentiable=(0, 1), note="pairs of the batch"),
        Case("AUCMLoss", m.AUCMLoss, lambda: (scores(1), (torch.arange(N)[:, None] % 2).float()), note="over the batch"),
        Case("BoxGIoULoss", m.BoxGIoULoss, _boxes, VALUES),
        Case("MaskedDiceLoss", lambda: m.MaskedDiceLoss(sigmoid=True), lambda: (*_binary(), shares(1, SIZE, SIZE).round())),
    ]  # fmt: skip


def kornia() -> list[Case]:
    """Return the cases of kornia."""
    k = part("kornia", "kornia.losses")
    if k is None:
        return []
    robust = ("CauchyLoss", "CharbonnierLoss", "GemanMcclureLoss", "WelschLoss")
    return [
        *(Case(name, lambda n=name: getattr(k, n)(), _images, VALUES) for name in robust),
        Case("FocalLoss", lambda: k.FocalLoss(0.5), _classes, VALUES),
        Case("BinaryFocalLossWithLogits", lambda: k.BinaryFocalLossWithLogits(0.5), _binary, VALUES),
        Case("SSIMLoss", lambda: k.SSIMLoss(5), _images, VALUES),
        Case("HausdorffERLoss", lambda: k.HausdorffERLoss(k=3), lambda: (_maps()[0], _maps()[1][:, :1].long()), note="the largest over the batch"),
        Case("TotalVariation", k.TotalVariation, lambda: (_images()[0],), {"relational": False}),
        Case("DiceLoss", k.DiceLoss, _classes, note="a ratio over the batch"),
        Case("TverskyLoss", lambda: k.TverskyLoss(0.5, 0.5), _classes, note="it has no `reduction`"),
        Case("LovaszHingeLoss", k.LovaszHingeLoss, lambda: (_binary()[0][:, 0], _binary()[1][:, 0]), note="it has no `reduction`"),
        Case("LovaszSoftmaxLoss", k.LovaszSoftmaxLoss, _classes, note="a ranking over the batch"),
        Case("PSNRLoss", lambda: k.PSNRLoss(1.0), _images, note="a logarithm of the mean over the batch"),
        Case("InverseDepthSmoothnessLoss", k.InverseDepthSmoothnessLoss, lambda: (_images()[0], shares(3, 16, 16)), note="it has no `reduction`"),
    ]  # fmt: skip


def segmentation_models() -> list[Case]:
    """Return the cases of segmentation-models-pytorch."""
    s = part("segmentation_models_pytorch", "segmentation_models_pytorch.losses")
    if s is None:
        return []
    return [
        Case("SoftBCEWithLogitsLoss", s.SoftBCEWithLogitsLoss, _binary, VALUES),
        Case("FocalLoss", lambda: s.FocalLoss("binary"), _binary, note="its reduction is no attribute"),
        Case("SoftCrossEntropyLoss", lambda: s.SoftCrossEntropyLoss(smooth_factor=0.1), _classes, VALUES),
        Case("DiceLoss", lambda: s.DiceLoss("multiclass"), _classes, note="a ratio over the batch"),
        Case("JaccardLoss", lambda: s.JaccardLoss("multiclass"), _classes, note="a ratio over the batch"),
        Case("TverskyLoss", lambda: s.TverskyLoss("multiclass"), _classes, note="a ratio over the batch"),
        Case("LovaszLoss", lambda: s.LovaszLoss("multiclass"), _classes, dtype=torch.float32, note="a ranking over the batch"),
        Case("MCCLoss", s.MCCLoss, lambda: (shares(1, SIZE, SIZE), _binary()[1]), note="a ratio over the batch"),
    ]


def timm() -> list[Case]:
    """Return the cases of timm."""
    t = part("timm", "timm.loss")
    if t is None:
        return []
    return [
        Case("BinaryCrossEntropy", t.BinaryCrossEntropy, lambda: (scores(C), _one_hot()[1]), VALUES),
        Case("LabelSmoothingCrossEntropy", t.LabelSmoothingCrossEntropy, _labelled, note="it has no `reduction`"),
        Case("SoftTargetCrossEntropy", t.SoftTargetCrossEntropy, _one_hot, note="it has no `reduction`"),
        Case("AsymmetricLossMultiLabel", t.AsymmetricLossMultiLabel, _one_hot, note="a sum over the batch"),
        Case("AsymmetricLossSingleLabel", t.AsymmetricLossSingleLabel, _labelled, note="its `reduction` is no string"),
        Case("JsdCrossEntropy", lambda: t.JsdCrossEntropy(num_splits=1 + 1), _labelled, note="splits of the batch"),
    ]
