"""Validates inputs and parameters that belong to classes: labels, class indices, and scores or numbers per class.

Checks of shapes and dtypes need no synchronisation. Checks that say "Reads the values" wait for a GPU.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lossframe.errors import InputError
from lossframe.losses.base.checks import dimensions, extremes, floating, integral, probabilities


def labels(labels: Tensor, second: str = "", **rows: Tensor) -> None:
    """Require integer labels `[N]` or `[N, 1]` for `[N, ...]` rows; `second` is a remedy for rows instead of labels."""
    ((name, given),) = rows.items()
    wanted = f"wanted integer labels [{len(given)}] or [{len(given)}, 1] for {name} {list(given.shape)}"
    if labels.is_floating_point() and labels.shape == given.shape and given.ndim > 1 and given.shape[1] > 1:
        raise InputError(
            f"{wanted}, found a second tensor like {name}; {second}stack both as torch.cat([first, second]), with "
            f"labels torch.arange({len(given)}).repeat(2)"
        )
    integral(labels=labels)
    if list(labels.shape) not in ([len(given)], [len(given), 1]):
        remedy = "; class indices of one-hot labels are labels.argmax(1)" if labels.ndim == 2 else ""
        raise InputError(f"{wanted}, found shape {list(labels.shape)}{remedy}")


def rows_of_views(**rows: Tensor) -> None:
    """Require floating `[N, D]` rows; the error for `[N, views, D]` names the two forms of several views."""
    ((name, given),) = rows.items()
    if given.ndim == 3:
        views = given.shape[1]
        raise InputError(
            f"wanted {name} [N, D], found shape {list(given.shape)}; {views} views of each sample are rows of their "
            f"own: {name}.flatten(0, 1) with labels.repeat_interleave({views})"
        )
    dimensions("[N, D]", 2, 2, **rows)
    floating(**rows)


def class_scores(target: Tensor, **scores: Tensor) -> None:
    """Require floating scores `[N, C, ...]`, and as target indices `[N, ...]` or probabilities `[N, C, ...]`."""
    ((name, given),) = scores.items()
    dimensions("[N, C, ...]", 2, None, **scores)
    floating(**scores)
    if given.shape[1] < 2:
        binary = (
            "BinaryCrossEntropyLoss, BinaryFocalLoss and DiceLoss(activation='sigmoid') read one score per yes or no"
        )
        raise InputError(f"wanted at least 2 classes on dim 1, found {name} {list(given.shape)}; {binary}")
    if target.is_floating_point():
        wanted, fits = "probabilities", [list(given.shape)]
    else:
        integral(target=target)
        wanted, fits = "indices", _index_shapes(given)
    if list(target.shape) not in fits:
        shapes = " or ".join(map(str, fits))
        found = f"{list(target.shape)} of {target.dtype}{_remedy(target, given, name)}"
        raise InputError(f"{name} {list(given.shape)} want a target of {wanted} {shapes}, found {found}")


def channels(target: Tensor, **scores: Tensor) -> None:
    """Require floating scores `[N, C, ...]`, and as target one number for each, or class indices `[N, ...]`."""
    ((name, given),) = scores.items()
    dimensions("[N, C, ...]", 2, None, **scores)
    floating(**scores)
    fits = [list(given.shape)]
    if given.shape[1] == 1 or not target.is_floating_point():
        fits += _index_shapes(given)
    if target.is_complex() or list(target.shape) not in fits:
        wanted = f"a target of that shape, or class indices {_without_classes(given)}"
        found = f"{list(target.shape)} of {target.dtype}{_remedy(target, given, name)}"
        raise InputError(f"{name} {list(given.shape)} want {wanted}, found {found}")


def _index_shapes(scores: Tensor) -> list[list[int]]:
    """Return the shapes that class indices may have."""
    return [_without_classes(scores), *([[len(scores), 1]] if scores.ndim == 2 else [])]


def _without_classes(scores: Tensor) -> list[int]:
    return [len(scores), *scores.shape[2:]]


def _remedy(target: Tensor, scores: Tensor, name: str) -> str:
    """Return what to do about a target whose shape does not fit scores of two or more classes."""
    if target.shape == scores.shape and not target.is_floating_point():
        return "; of one-hot labels, target.float() is read as probabilities, and target.argmax(1) as class indices"
    if list(target.shape) == _without_classes(scores):
        return "; class indices are integers: target.long()"
    if target.ndim > 1 and target.shape[1] == 1 and list(target.squeeze(1).shape) == _without_classes(scores):
        return "; remove its dim of size 1: target.squeeze(1)"
    if scores.ndim > 2 and target.shape == scores.shape[:-1]:
        return f"; classes are on dim 1: {name}.movedim(-1, 1)"
    return ""


def class_indices(num_classes: int, ignore_index: int | None = None, **tensors: Tensor) -> None:
    """Require every index in `[0, num_classes)`, or equal to `ignore_index`. Reads the values."""
    for name, tensor in tensors.items():
        smallest, largest = extremes(tensor)
        if smallest >= 0 and largest < num_classes:
            continue
        indices = tensor.detach()
        wrong = (indices < 0) | (indices >= num_classes)
        if ignore_index is not None:
            wrong &= indices != ignore_index
        if wrong.any():
            found = indices[wrong][0].item()
            remedy = "" if ignore_index is None else f"; ignore_index={found} leaves it out"
            raise InputError(
                f"wanted {name} from 0 to {num_classes - 1} ({num_classes} classes), found {found}{remedy}"
            )


def class_target(num_classes: int, ignore_index: int | None, target: Tensor) -> None:
    """Require class indices in range, or probabilities within [0, 1]. Reads the values."""
    if target.is_floating_point():
        probabilities(target=target)
    else:
        class_indices(num_classes, ignore_index, target=target)


def class_numbers(**parameters: float | Sequence[float] | Tensor | None) -> Tensor | None:
    """Require one finite number >= 0, or one per class, for a loss's parameter; return a float64 tensor, or None."""
    ((name, value),) = parameters.items()
    if value is None:
        return None
    numbers = torch.as_tensor(value, dtype=torch.float64).detach().clone()
    if numbers.ndim > 1 or not bool(((numbers >= 0) & numbers.isfinite()).all()):
        raise InputError(f"wanted {name} a number or one per class, finite and >= 0, found {value!r}")
    return numbers


def class_size(num_classes: int, **parameters: Tensor | None) -> None:
    """Require that a parameter holds one number, or `num_classes` numbers."""
    for name, value in parameters.items():
        if value is not None and value.ndim and len(value) != num_classes:
            raise InputError(f"wanted {num_classes} numbers in {name}, one per class, found {len(value)}")
