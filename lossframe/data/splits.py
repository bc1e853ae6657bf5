"""Splits samples into train, val and test: each sample is in one split, which depends on the seed only."""

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lossframe.data.samplers import Positions
from lossframe.errors import InputError, names, nearest

NAMES = ("train", "val", "test")
Splits = dict[str, Tensor]


def split_samples(labels: Tensor, val_fraction: float, test_fraction: float, seed: int) -> Splits:
    """Return the ids of "train", "val" and "test", with the same share of every class in each."""
    strata = labels.numpy()
    return _cut(np.arange(len(strata)), strata, {"val": val_fraction, "test": test_fraction}, seed)


def split_classes(labels: Tensor, val_fraction: float, test_fraction: float, seed: int) -> Splits:
    """Return the ids of "train", "val" and "test", where `test_fraction` of the classes are in "test" only.

    The seed decides which, and at least two classes are held out. "val" has `val_fraction` of each other class.
    """
    strata = labels.numpy()
    classes = np.unique(strata)
    held_out = max(2, round(test_fraction * len(classes)))
    if len(classes) - held_out < 2:
        raise InputError(
            f"split=classes with test_fraction={test_fraction} holds {held_out} of {len(classes)} classes out for "
            "test and needs at least 2 others to train on: lower data.test_fraction, or use data.split=samples"
        )
    unseen = np.isin(strata, np.random.default_rng(seed).permutation(classes)[:held_out])
    splits = _cut(np.flatnonzero(~unseen), strata, {"val": val_fraction}, seed)
    return splits | {"test": torch.from_numpy(np.flatnonzero(unseen))}


SPLITS: dict[str, Callable[[Tensor, float, float, int], Splits]] = {
    "samples": split_samples,
    "classes": split_classes,
}


def split_by(kind: str, labels: Tensor, val_fraction: float, test_fraction: float, seed: int) -> Splits:
    """Split by the function `kind` of `SPLITS`; an unknown kind or an empty split is an `InputError`."""
    check_split(kind, val_fraction, test_fraction)
    return SPLITS[kind](labels, val_fraction, test_fraction, seed)


def check_split(kind: str, val_fraction: float, test_fraction: float) -> None:
    """Raise an `InputError` for an unknown kind of split, or fractions that leave a split empty."""
    if kind not in SPLITS:
        raise InputError(f"split must be one of {names(SPLITS)}, but is {kind!r}.{nearest(kind, SPLITS)}")
    if not (val_fraction > 0 and test_fraction > 0 and val_fraction + test_fraction < 1):
        raise InputError(
            "val_fraction and test_fraction must be above 0 and leave something to train on, "
            f"but are {val_fraction} and {test_fraction}"
        )


def split_as_said(column: Any, key: str) -> Splits:
    """Return the ids of the rows for which a column says "train", "val" or "test"; `key` is named in an error."""
    said = column.fillna("nothing").astype(str).to_numpy(dtype=object)
    if others := sorted(set(said) - {*NAMES}):
        raise InputError(f"{key}: wanted 'train', 'val' or 'test' in each row, found {names(others[:5])}")
    splits = {name: torch.from_numpy(np.flatnonzero(said == name)) for name in NAMES}
    if empty := [name for name, rows in splits.items() if not len(rows)]:
        raise InputError(f"{key}: no row has {names(empty)}; give each split some")
    return splits


def everything(count: int) -> Splits:
    """Return all of so many samples as each split."""
    return dict.fromkeys(NAMES, torch.arange(count))


def fingerprint(splits: Splits) -> str:
    """Return a text that differs between different splits."""
    digest = hashlib.sha256()
    for name, ids in sorted(splits.items()):
        digest.update(f"{name}{ids.tolist()}".encode())
    return digest.hexdigest()


def _cut(ids: Positions, strata: Positions, fractions: dict[str, float], seed: int) -> Splits:
    """Cut each class in `strata` at random into parts of these fractions, and "train" for the rest."""
    generator = np.random.default_rng(seed)
    parts: dict[str, list[Positions]] = {"train": [], **{name: [] for name in fractions}}
    for label in np.unique(strata[ids]):
        rest = generator.permutation(ids[strata[ids] == label])
        size = len(rest)
        for name, fraction in fractions.items():
            count = max(1, round(fraction * size))
            parts[name].append(rest[:count])
            rest = rest[count:]
        if not len(rest):
            raise InputError(f"class {label} has {size} samples, too few for one in each of {names(parts)}")
        parts["train"].append(rest)
    return {name: torch.from_numpy(np.sort(np.concatenate(part))) for name, part in parts.items()}
