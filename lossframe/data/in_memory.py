"""Base class of data sets in memory: loads, checks and splits the samples once, and batches them on all ranks."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypedDict, TypeVar

import pytorch_lightning as pl
import torch
from torch import Tensor

from lossframe import saved
from lossframe.counts import check_counts, check_given_counts
from lossframe.data import position
from lossframe.data.evaluation import evaluated
from lossframe.data.loader import BatchLoader, Change
from lossframe.data.samplers import GlobalBatchSampler, SamplerFactory, ShardedBatchSampler, balanced
from lossframe.data.splits import Splits, check_split, everything, fingerprint, split_by
from lossframe.errors import InputError, names

T = TypeVar("T")

_log = logging.getLogger(__name__)


class DataOptions(TypedDict, total=False):
    """Options of every data set, in addition to those that describe its contents.

    `batch_size`: samples in a batch, over all ranks (default 80, or as many as fewer classes fill).
    `split`: "samples" (default), or "classes": those of the test split are in no other.
    `val_fraction`, `test_fraction`: shares of the samples, or for split=classes of the classes (0.1, 0.3).
    `seed`: decides the split and, with the epoch, the training batches (0).
    `sampler`: makes the training batches: `balanced` (default), `shuffled`, or a partial of these.
    """

    batch_size: int | None
    split: str
    val_fraction: float
    test_fraction: float
    seed: int
    sampler: SamplerFactory


class InMemoryData(pl.LightningDataModule, ABC):
    """Abstract base: loads a data set as one frame, checks and splits it, and makes a loader for each split."""

    provides: ClassVar[frozenset[str]]

    found = ""
    """A line about files that were read."""

    is_whole = False
    """Whether each split holds all samples, for they are other data than those of a training."""

    def __init__(
        self,
        *,
        batch_size: int | None = None,
        split: str = "samples",
        val_fraction: float = 0.1,
        test_fraction: float = 0.3,
        seed: int = 0,
        sampler: SamplerFactory = balanced,
    ) -> None:
        super().__init__()
        check_split(split, val_fraction, test_fraction)
        check_counts(self, least=0, seed=seed)
        check_given_counts(self, batch_size=batch_size)
        self.split, self.val_fraction, self.test_fraction = split, val_fraction, test_fraction
        self.batch_size, self.seed, self.sampler = batch_size, seed, sampler
        self.frame: dict[str, Tensor] = {}
        self.splits: Splits = {}
        self.fitted: dict[str, Any] = {}
        self._facts: dict[str, Any] = {}
        self._training: BatchLoader | None = None
        self._progress: dict[str, Any] | None = None

    @abstractmethod
    def load(self) -> dict[str, Tensor]:
        """Return the entries of all samples, name -> tensor; the row of a sample is its id."""

    @abstractmethod
    def describe(self, frame: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return what a loaded frame has for the attributes that describe it, name -> value; None: no such thing."""

    def divide(self, frame: Mapping[str, Tensor]) -> Splits:
        """Return the ids of the samples of "train", "val" and "test"."""
        strata = frame.get("labels", torch.zeros(_count(frame), dtype=torch.int64))
        return split_by(self.split, strata, self.val_fraction, self.test_fraction, self.seed)

    def prepare(self, frame: dict[str, Tensor], train: Tensor) -> dict[str, Tensor]:
        """Return the frame after preprocessing, fitted on the rows `train` only (default: unchanged)."""
        return frame

    def fit(self, name: str, learn: Callable[[], T]) -> T:
        """Return what the preprocessing has learnt under a name, or let it learn that from the training samples.

        Checkpoints hold all that was learnt, so that other data are prepared as those of the training were.
        """
        if name not in self.fitted:
            self.fitted[name] = learn()
        found: T = self.fitted[name]
        return found

    def adopt(self, fitted: Mapping[str, Any], is_whole: bool) -> None:
        """Prepare the samples as a training did that has learnt `fitted`; say whether they are other data than its."""
        self.fitted, self.is_whole = dict(fitted), is_whole

    def legend(self) -> dict[str, str]:
        """Return how the numbers of entries are read, entry -> text, as `labels` -> `0 cat, 1 dog`."""
        classes: list[str] = getattr(self, "class_names", [])
        return {"labels": ", ".join(f"{k} {name}" for k, name in enumerate(classes))} if classes else {}

    def facts(self) -> dict[str, Any]:
        """Load the data, and return its values for the attributes that describe it, such as the number of classes."""
        self.setup()
        return dict(self._facts)

    def setup(self, stage: str | None = None) -> None:
        """Load, check and split the data, once; log what was found when a training begins, after all checks."""
        self._read()
        if stage == "fit" and self.found:
            _log.info(self.found)
            self.found = ""

    def _read(self) -> None:
        if self.splits:
            return
        frame = self.load()
        self._facts = self.describe(frame)
        self._check()
        splits = everything(_count(frame)) if self.is_whole else self.divide(frame)
        self.frame, self.splits = self.prepare(frame, splits["train"]), splits

    def train_dataloader(self) -> BatchLoader:
        """Return this rank's share of the sampler's batches."""
        loader = self._loader("train", self.sampler(self._of("train"), self.batch_size, self.seed), self.change())
        if self._progress is not None:
            loader.load_state_dict(self._progress)
        self._training, self._progress = loader, None
        return loader

    def val_dataloader(self) -> BatchLoader:
        """Return this rank's share of the validation samples, each once, with several of a class in a batch."""
        return self.each_once("val")

    def test_dataloader(self) -> BatchLoader:
        """Return this rank's share of the test samples, each once, with several of a class in a batch."""
        return self.each_once("test")

    def each_once(self, split: str) -> BatchLoader:
        """Return this rank's share of the samples of "train", "val" or "test", each once and unchanged."""
        return self._loader(split, self._evaluated(split))

    def change(self) -> Change | None:
        """Return the function that augments training batches, None for no augmentation."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """Return how the samples are split and prepared, and the position in the training batches, for checkpoints.

        Lightning saves the position too, and loses it where a loader is made before it is loaded.
        """
        progress = None if self._training is None else self._training.state_dict()
        split = {"splits": fingerprint(self.splits), "options": self._split_options()}
        return {**split, "fitted": self.fitted, "progress": progress}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set the position in the training batches.

        Raises an `InputError` unless the samples are split as in the checkpoint, whose model has seen its own split,
        and have the values that its preprocessing has learnt from.
        """
        form = {
            "splits": str,
            "options": dict.fromkeys(self._split_options(), object),
            "fitted": dict.fromkeys(self.fitted, object),
            "progress": saved.Maybe(position.FORM),
        }
        saved.check(state, form, type(self).__name__)
        self._progress = state["progress"]
        if fingerprint(self.splits) != state["splits"]:
            raise InputError(self._other_split(state["options"]))
        if other := [name for name, each in self.fitted.items() if not _is_close(state["fitted"][name], each)]:
            raise InputError(
                f"the data have another {names(other)} than in the checkpoint's training: give these samples back, or "
                "train anew without ckpt"
            )

    def _other_split(self, before: Mapping[str, Any]) -> str:
        """Say in which options a split differs from that of a checkpoint."""
        now = self._split_options()
        changed = {name: value for name, value in before.items() if value != now.get(name)}
        shown = ", ".join(f"data.{name}={now.get(name)} for {value}" for name, value in changed.items())
        restored = " ".join(f"data.{name}={value}" for name, value in changed.items())
        return (
            f"{shown or 'other samples'}: wanted the split of the checkpoint, found another, which tests on samples "
            f"that were trained on; {f'add {restored}' if changed else 'give the samples back'}, or train anew without "
            "ckpt"
        )

    def _split_options(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("split", "val_fraction", "test_fraction", "seed")}

    def _check(self) -> None:
        """Fill attributes that are None with the facts; raise an `InputError` if others differ from them."""
        for name, found in self._facts.items():
            wanted = getattr(self, name)
            if wanted is None:
                setattr(self, name, found)
            elif wanted != found:
                raise InputError(
                    f"{type(self).__name__} was given {name}={wanted}, but its data has {found}: "
                    f"set data.{name}={found}"
                )

    def _of(self, split: str) -> dict[str, Tensor]:
        return {name: entry[self.splits[split]] for name, entry in self.frame.items()}

    def _evaluated(self, split: str) -> GlobalBatchSampler:
        options = getattr(self.sampler, "keywords", {})  # of a partial
        return evaluated(self._of(split), self.batch_size, options.get("samples_per_class"))

    def _loader(self, name: str, batches: GlobalBatchSampler, change: Change | None = None) -> BatchLoader:
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return BatchLoader(self.frame, self.splits[name], ShardedBatchSampler(batches, rank, world_size), change)


def _is_close(one: Any, other: Any) -> bool:
    """Return whether nested lists, texts and numbers are equal, but for the last digits of numbers."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_is_close, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_is_close(one[key], other[key]) for key in one)
    if isinstance(one, Tensor | float):
        numbers = [torch.as_tensor(each, dtype=torch.float64) for each in (one, other)]
        return numbers[0].shape == numbers[1].shape and torch.allclose(numbers[0], numbers[1], rtol=1e-6)
    return bool(one == other)


def _count(frame: Mapping[str, Tensor]) -> int:
    return len(next(iter(frame.values())))
