"""Reads pairs or triplets of image files from a CSV file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from lossframe.counts import check_image_shape
from lossframe.data.csv_reading import read
from lossframe.data.image_reading import pixels
from lossframe.data.image_reading import read as read_image
from lossframe.data.in_memory import DataOptions, InMemoryData
from lossframe.data.samplers import Positions, shuffled
from lossframe.data.splits import NAMES, Splits, split_as_said
from lossframe.errors import InputError, names

_PAIRS, _TRIPLETS = ("path_a", "path_b", "target"), ("anchor", "positive", "negative")


class ImageRowsFile(InMemoryData):
    """Loads pairs from the columns `path_a`, `path_b` and `target` of a CSV file, or `anchor`, `positive`, `negative`.

    Paths are relative to the file's folder. Provides `images` float32 [B, 2 or 3, C, H, W] in [0, 1], resized to
    `image_shape` [C, H, W], `index`, and for pairs `target` float32 [B], 1 for one class and 0 for two. Rows that share
    an image, directly or by other rows, are in one split; or else a `split_column` says "train", "val" or "test".
    """

    def __init__(
        self, path: str | Path, image_shape: Sequence[int] = (3, 32, 32), split_column: str | None = None,
        **options: Unpack[DataOptions],
    ) -> None:  # fmt: skip
        options.setdefault("sampler", shuffled)
        super().__init__(**options)
        check_image_shape(self, image_shape)
        self.path = Path(path)
        self.image_shape = tuple(image_shape)
        self.split_column = split_column
        self._divided: Splits = {}

    @property
    def provides(self) -> frozenset[str]:  # type: ignore[override]
        """The entries of a batch, which depend on the columns."""
        self.setup()
        return frozenset({*self.frame, "index"})

    def load(self) -> dict[str, Tensor]:
        """Return the rows, or raise an `InputError` that says what is wrong with the file or an image."""
        table = read(self.path)
        found = [str(column) for column in table]
        columns = next((each for each in (_PAIRS, _TRIPLETS) if set(each) <= set(found)), None)
        if columns is None:
            wanted = f"wanted the columns {names(_PAIRS)}, or {names(_TRIPLETS)}"
            raise InputError(f"{self.path}: {wanted}, found {names(found)}; rename the columns")
        paths = table[[column for column in columns if column != "target"]].to_numpy(dtype=str)
        files, members = np.unique(paths, return_inverse=True)
        members = members.reshape(paths.shape)
        self._divided = self._divide(table, members, files)
        images = torch.from_numpy(np.stack([self._image(file) for file in files]))
        frame = {"images": images[torch.from_numpy(members)]}
        return frame | ({"target": self._target(table)} if columns is _PAIRS else {})

    def describe(self, frame: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return the shape of an image."""
        return {"image_shape": tuple(frame["images"].shape[2:])}

    def divide(self, frame: Mapping[str, Tensor]) -> Splits:
        """Return the splits, of which no two share an image."""
        return self._divided

    def _image(self, file: str) -> Any:
        return read_image(self.path.parent / file, lambda image: pixels(image, self.image_shape))

    def _target(self, table: Any) -> Tensor:
        target = torch.from_numpy(table["target"].to_numpy(dtype=np.float32))
        if wrong := sorted(set(target.tolist()) - {0.0, 1.0}):
            raise InputError(f"{self.path}: wanted target 1 (one class) or 0 (two), found {wrong[0]}; mend the column")
        return target

    def _divide(self, table: Any, members: Positions, files: Any) -> Splits:
        """Return the rows of each split; an `InputError` names an image that would be in two."""
        if self.split_column is None:
            return _by_component(self.path, members, (self.val_fraction, self.test_fraction), self.seed)
        if self.split_column not in table:
            raise InputError(
                f"data.split_column={self.split_column}: wanted a column of {self.path}, one of {names(table)}"
            )
        splits = split_as_said(table[self.split_column], f"data.split_column={self.split_column}")
        held = [set(members[rows.numpy()].flatten().tolist()) for rows in splits.values()]
        for first, second in ((0, 1), (0, 2), (1, 2)):
            if shared := held[first] & held[second]:
                where = f"in {NAMES[first]} and {NAMES[second]}"
                raise InputError(f"{self.path}: {files[min(shared)]} is {where}; give each image to one split")
        return splits


def _by_component(path: Path, members: Positions, fractions: tuple[float, float], seed: int) -> Splits:
    """Split rows at random such that rows which share an image, directly or by other rows, stay together."""
    size = int(members.max()) + 1
    links = [(members[:, 0], members[:, column]) for column in range(1, members.shape[1])]
    first, second = (np.concatenate(each) for each in zip(*links, strict=True))
    _, component = connected_components(coo_array((np.ones(len(first)), (first, second)), shape=(size, size)), False)
    of_row = component[members[:, 0]]
    parts: dict[str, list[Positions]] = {name: [] for name in NAMES}
    room = {"val": round(fractions[0] * len(members)), "test": round(fractions[1] * len(members))}
    for chosen in np.random.default_rng(seed).permutation(np.unique(of_row)):
        rows = np.flatnonzero(of_row == chosen)
        name = next((name for name, left in room.items() if len(rows) <= left), "train")
        room[name] = room.get(name, 0) - len(rows)
        parts[name].append(rows)
    if empty := [name for name, rows in parts.items() if not rows]:
        raise InputError(
            f"{path}: its rows share so many images that {names(empty)} would have none of its own; say by a column in "
            "which split each row is, data.split_column=NAME"
        )
    return {name: torch.from_numpy(np.sort(np.concatenate(rows))) for name, rows in parts.items()}
