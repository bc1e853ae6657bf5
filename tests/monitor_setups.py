"""Draws random set-ups of a training with `LossMonitor`: data, Trainer, losses, hooks, callbacks and checkpoints."""

import random
from dataclasses import dataclass, fields
from typing import Any

from monitor_module import OUTSIDE, SHARED, STAGES

TERMS = ("first", "whole", "centred", "objective", "extra", "centred_extra")
RAGGED_TERMS = ("first", "whole", "extra")
"""Terms that need no collective in a step, so that ranks may have unequally many validation batches."""
OF_BATCHES = ("on_{}_batch_start", "{}_step", "on_{}_batch_end")
CALLBACKS = (
    "EarlyStopping", "LambdaCallback", "LearningRateMonitor", "ModelCheckpoint", "Observer", "TQDMProgressBar", "Timer",
)  # fmt: skip
STEPS = ("training_step", "validation_step", "test_step", "predict_step")
SAVED = ("on_train_batch_end", "on_train_epoch_end", "on_validation_end")
Sizes = list[list[int]]
"""Number of samples of each batch: `sizes[rank][batch]`."""


@dataclass(frozen=True)
class Setup:
    """Describes one training on 1 or 2 ranks, and evaluations after it."""

    ranks: int
    log_every: int
    train: Sizes
    loaders: list[Sizes]
    """Batches of each validation dataloader, which are also those of tests and predictions."""
    trainer: dict[str, Any]
    calls: dict[str, tuple[str, ...]]
    """Losses that each hook calls."""
    callbacks: tuple[str, ...]
    """Callbacks in order, with the monitor and, if a checkpoint is made, `Saver` or `LastSaver`."""
    saved: tuple[str, int] | None
    """Hook, and number of its call, in which the checkpoint is saved from which a second training resumes."""
    after: tuple[str, ...]
    """Methods of the trainer that are called after the training."""
    options: dict[str, Any]
    """Options of the losses."""
    seed: int

    def __str__(self) -> str:
        return "\n".join(f"  {each.name} = {getattr(self, each.name)!r}" for each in fields(self))


class Draw:
    """Draws a set-up from a seed and a number."""

    def __init__(self, seed: int, number: int, ranks: int | None = None) -> None:
        self.random = random.Random(f"{seed} {number}")
        self.ranks = ranks or self.random.choice((1, 1, 2))
        self.ragged = self.ranks == 2 and self.often(0.3)

    def often(self, probability: float) -> bool:
        """Return True with a probability."""
        return self.random.random() < probability

    def setup(self) -> Setup:
        """Return a random set-up."""
        draw = self.random
        train = self.sizes(draw.randint(3, 7), ragged=False)
        loaders = [self.sizes(draw.randint(1, 3), self.ragged) for _ in range(draw.choice((0, 1, 1, 1, 2, 3)))]
        saved = (draw.choice(SAVED), draw.randint(1, 5)) if self.often(0.4) else None
        return Setup(
            ranks=self.ranks,
            log_every=draw.randint(1, 9),
            train=train,
            loaders=loaders,
            trainer=self.trainer(len(train[0]), loaders),
            calls=self.calls(len(loaders)),
            callbacks=self.callbacks(saved is not None),
            saved=saved,
            after=tuple(draw.sample(("validate", "test", "predict"), draw.randint(0, 3))) if loaders else (),
            options=self.options(),
            seed=draw.getrandbits(30),
        )

    def sizes(self, batches: int, ragged: bool) -> Sizes:
        """Return sizes of batches for each rank, `ragged` if ranks may have unequally many; rank 0 has no empty one."""
        numbers = [batches + (self.random.randint(0, 2) if ragged else 0) for _ in range(self.ranks)]
        return [[self.random.randint(rank == 0, 5) for _ in range(number)] for rank, number in enumerate(numbers)]

    def trainer(self, batches: int, loaders: list[Sizes]) -> dict[str, Any]:
        """Return the arguments of the Trainer."""
        draw = self.random
        limit = draw.choice((None, None, 0.5, draw.randint(2, batches)))
        batches = min(batches, int(batches * limit)) if isinstance(limit, float) else limit or batches
        limits = [None, None, 0, 1, 2] + [0.5] * (not self.ragged and all(len(each[0]) > 1 for each in loaders))
        every = draw.choice((1, 1, 2, None))
        fractions = [fraction for fraction in (1.0, 1.0, 0.5, 0.34) if batches * fraction >= 1]
        interval: float = draw.choice([*fractions, draw.randint(1, batches)])
        if every is None:
            interval = draw.randint(1, 2 * batches)
        return {
            "max_epochs": draw.randint(1, 3),
            "max_steps": draw.choice((-1, -1, draw.randint(1, 8))),
            "limit_train_batches": limit,
            "limit_val_batches": draw.choice(limits),
            "val_check_interval": interval,
            "check_val_every_n_epoch": every,
            "accumulate_grad_batches": draw.choice((1, 1, 2, 3)),
            "num_sanity_val_steps": draw.choice((0, 1, 2)),
        }

    def calls(self, loaders: int) -> dict[str, tuple[str, ...]]:
        """Return which losses each hook calls: the steps most of them, a few random hooks some of them.

        With several dataloaders, hooks outside of a batch call only `whole`, and hooks of a batch all others.
        """
        terms = RAGGED_TERMS if self.ragged else TERMS
        hooks = {hook: self.some(terms, 0.7) for hook in STEPS}
        for hook in self.random.sample((*STAGES, *SHARED, *OUTSIDE), self.random.randint(0, 12)):
            hooks[hook] = self.some(terms, 0.5)
        if loaders > 1:
            evaluation = [hook for hook, stage in STAGES.items() if stage in ("val", "test")]
            batch = {hook.format(stage) for hook in OF_BATCHES for stage in ("validation", "test")}
            for hook in SHARED:  # they come before the hook that tells the monitor of another dataloader
                hooks.pop(hook, None)
            for hook in evaluation:
                kept = set(terms) - {"whole"} if hook in batch else {"whole"}
                hooks[hook] = tuple(term for term in hooks.get(hook, ()) if term in kept)
        return {hook: terms for hook, terms in hooks.items() if terms}

    def some(self, terms: tuple[str, ...], probability: float) -> tuple[str, ...]:
        """Return each of some terms with a probability."""
        return tuple(term for term in terms if self.often(probability))

    def callbacks(self, saved: bool) -> tuple[str, ...]:
        """Return callbacks in random order."""
        named = [*self.some(CALLBACKS, 0.4), "LossMonitor"]
        named += [self.random.choice(("Saver", "LastSaver"))] if saved else []
        self.random.shuffle(named)
        return tuple(named)

    def options(self) -> dict[str, Any]:
        """Return the options of the losses."""
        reduction = "none" if self.ragged else self.random.choice(("mean", "mean", "sum"))
        shown = {"log_std": True, "log_min": True, "log_max": True, "log_quantiles": self.often(0.3)}
        return shown | {"reduction": reduction}
