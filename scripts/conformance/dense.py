"""Losses of MONAI, kornia, segmentation-models-pytorch and timm on images, volumes and class scores.

The last two need torchvision, which has no build for every torch; their losses do not, and are imported without it.
"""

import importlib
import importlib.util
import sys
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from conformance.case import C, Case, Inputs, N, classes, scores, shares

SIZE = 8
"""Height and width of images."""
VALUES: dict[str, Any] = {"options": {"unreduced": True}}
"""Of a loss whose `reduction` may be "none"."""


def part(package: str, name: str) -> Any:
    """Import a part of an installed package, without the package's own `__init__` if that fails; None if absent."""
    if name in sys.modules:
        return sys.modules[name]
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


def _one_map() -> Inputs:
    scores_, of_classes = _maps()
    return scores_, of_classes[:, :1].long()


def _depths() -> Inputs:
    return shares(1, 16, 16), shares(3, 16, 16)


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


def _moved_views() -> Inputs:
    return scores(6), scores(6)


Row = tuple[str, Callable[[Any], Any], Callable[[], Inputs], dict[str, Any]]
_A_RATIO, _A_RANKING = {"note": "a ratio over the batch"}, {"note": "a ranking over the batch"}
_OF_PARTS, _WITHOUT = {"note": "the reduction of its parts is not its own"}, {"note": "it has no `reduction`"}
_PAIRS = {"differentiable": (0, 1)}
MONAI: list[Row] = [
    ("DiceLoss", lambda m: m.DiceLoss(softmax=True), _maps, VALUES),
    ("GeneralizedDiceLoss", lambda m: m.GeneralizedDiceLoss(softmax=True), _maps, VALUES),
    ("TverskyLoss", lambda m: m.TverskyLoss(softmax=True), _maps, VALUES),
    ("FocalLoss", lambda m: m.FocalLoss(use_softmax=True), _maps, VALUES),
    ("DiceCELoss", lambda m: m.DiceCELoss(softmax=True), _maps, _OF_PARTS),
    ("DiceFocalLoss", lambda m: m.DiceFocalLoss(softmax=True), _maps, _OF_PARTS),
    ("GeneralizedDiceFocalLoss", lambda m: m.GeneralizedDiceFocalLoss(softmax=True), _maps, _OF_PARTS),
    ("MCCLoss", lambda m: m.MCCLoss(softmax=True), _maps, _A_RATIO),
    ("DiceLoss(batch=True)", lambda m: m.DiceLoss(softmax=True, batch=True), _maps, _A_RATIO),
    ("SSIMLoss", lambda m: m.SSIMLoss(2, win_size=5), _images, VALUES),
    ("LocalNormalizedCrossCorrelationLoss", lambda m: m.LocalNormalizedCrossCorrelationLoss(2), _images, VALUES),
    ("GlobalMutualInformationLoss", lambda m: m.GlobalMutualInformationLoss(), _images, VALUES),
    ("BendingEnergyLoss", lambda m: m.BendingEnergyLoss(), lambda: (_moved(),), VALUES),
    ("DiffusionLoss", lambda m: m.DiffusionLoss(), lambda: (_moved(),), VALUES),
    ("JukeboxLoss", lambda m: m.JukeboxLoss(2), _images, {"note": "spectra of the batch"}),
    ("BarlowTwinsLoss", lambda m: m.BarlowTwinsLoss(), _moved_views, {**_PAIRS, "note": "correlations over the batch"}),
    ("ContrastiveLoss", lambda m: m.ContrastiveLoss(), _moved_views, {**_PAIRS, "note": "pairs of the batch"}),
    ("AUCMLoss", lambda m: m.AUCMLoss(), lambda: (scores(1), (torch.arange(N)[:, None] % 2).float()), _A_RATIO),
    ("BoxGIoULoss", lambda m: m.BoxGIoULoss(), _boxes, VALUES),
    ("MaskedDiceLoss", lambda m: m.MaskedDiceLoss(sigmoid=True), lambda: (*_binary(), _binary()[1]), {}),
]
KORNIA: list[Row] = [
    ("CauchyLoss", lambda k: k.CauchyLoss(), _images, VALUES),
    ("CharbonnierLoss", lambda k: k.CharbonnierLoss(), _images, VALUES),
    ("GemanMcclureLoss", lambda k: k.GemanMcclureLoss(), _images, VALUES),
    ("WelschLoss", lambda k: k.WelschLoss(), _images, VALUES),
    ("FocalLoss", lambda k: k.FocalLoss(0.5), _classes, VALUES),
    ("BinaryFocalLossWithLogits", lambda k: k.BinaryFocalLossWithLogits(0.5), _binary, VALUES),
    ("SSIMLoss", lambda k: k.SSIMLoss(5), _images, VALUES),
    ("HausdorffERLoss", lambda k: k.HausdorffERLoss(k=3), _one_map, {"note": "sums over the batch"}),
    ("TotalVariation", lambda k: k.TotalVariation(), lambda: (_images()[0],), {"options": {"relational": False}}),
    ("DiceLoss", lambda k: k.DiceLoss(), _classes, _A_RATIO),
    ("TverskyLoss", lambda k: k.TverskyLoss(0.5, 0.5), _classes, _WITHOUT),
    ("LovaszHingeLoss", lambda k: lambda pred, target: k.LovaszHingeLoss()(pred, target[:, 0]), _binary, _WITHOUT),
    ("LovaszSoftmaxLoss", lambda k: k.LovaszSoftmaxLoss(), _classes, _A_RANKING),
    ("PSNRLoss", lambda k: k.PSNRLoss(1.0), _images, {"note": "a logarithm of the mean over the batch"}),
    ("InverseDepthSmoothnessLoss", lambda k: k.InverseDepthSmoothnessLoss(), _depths, _WITHOUT),
]
SEGMENTATION_MODELS: list[Row] = [
    ("SoftBCEWithLogitsLoss", lambda s: s.SoftBCEWithLogitsLoss(), _binary, VALUES),
    ("FocalLoss", lambda s: s.FocalLoss("binary"), _binary, {"note": "its reduction is no attribute"}),
    ("SoftCrossEntropyLoss", lambda s: s.SoftCrossEntropyLoss(smooth_factor=0.1), _classes, VALUES),
    ("DiceLoss", lambda s: s.DiceLoss("multiclass"), _classes, _A_RATIO),
    ("JaccardLoss", lambda s: s.JaccardLoss("multiclass"), _classes, _A_RATIO),
    ("TverskyLoss", lambda s: s.TverskyLoss("multiclass"), _classes, _A_RATIO),
    ("LovaszLoss", lambda s: s.LovaszLoss("multiclass"), _classes, {**_A_RANKING, "dtype": torch.float32}),
    ("MCCLoss", lambda s: s.MCCLoss(), lambda: (shares(1, SIZE, SIZE), _binary()[1]), _A_RATIO),
]
TIMM: list[Row] = [
    ("BinaryCrossEntropy", lambda t: t.BinaryCrossEntropy(), _one_hot, VALUES),
    ("LabelSmoothingCrossEntropy", lambda t: t.LabelSmoothingCrossEntropy(), _labelled, _WITHOUT),
    ("SoftTargetCrossEntropy", lambda t: t.SoftTargetCrossEntropy(), _one_hot, _WITHOUT),
    ("AsymmetricLossMultiLabel", lambda t: t.AsymmetricLossMultiLabel(), _one_hot, {"note": "a sum over the batch"}),
    ("AsymmetricLossSingleLabel", lambda t: t.AsymmetricLossSingleLabel(), _labelled, _WITHOUT),
    ("JsdCrossEntropy", lambda t: t.JsdCrossEntropy(num_splits=2), _labelled, {"note": "splits of the batch"}),
]


def cases(package: str, name: str, rows: list[Row]) -> list[Case]:
    """Return the cases of a package; none if it is not installed."""
    module = part(package, name)
    return [] if module is None else [Case(row[0], partial(row[1], module), row[2], **row[3]) for row in rows]
