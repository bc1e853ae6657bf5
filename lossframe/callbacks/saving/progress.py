"""Corrects the progress of Lightning's loops where a training goes on from the end of an epoch."""

from typing import Any

import pytorch_lightning as pl


def correct(trainer: pl.Trainer, checkpoint: dict[str, Any]) -> None:
    """Make a loaded checkpoint of an epoch's end go on with the next epoch, or in the middle of an epoch that was cut.

    A limit of steps or of time, or early stopping, cuts an epoch: its hooks have run, though batches were left. With
    a higher limit these follow.
    """
    loop = checkpoint["loops"]["fit_loop"]
    trackers = [loop["epoch_progress"][kind] for kind in ("total", "current")]
    if any(each["processed"] < each["ready"] for each in trackers):
        return  # in the middle of an epoch
    is_finished = 0 <= trainer.max_steps <= checkpoint["global_step"]
    is_cut = not loop["epoch_loop.batch_progress"]["is_last_batch"] and trackers[0]["ready"] > 0
    for each in trackers:
        if is_cut and not is_finished:
            each["processed"] = each["completed"] = each["ready"] - 1
        else:
            each["completed"] = each["processed"]


def begin(trainer: pl.Trainer) -> None:
    """Let the next epoch begin anew; with a limit of steps, Lightning trains a batch of the last epoch once more."""
    epoch = trainer.fit_loop.epoch_progress.current
    if epoch.completed == epoch.ready:
        trainer.fit_loop.epoch_loop.restarting = False


def end(trainer: pl.Trainer) -> None:
    """Count an epoch that was cut, and is not continued: training had stopped early, and stops at once."""
    progress = trainer.fit_loop.epoch_progress
    trackers: list[Any] = [progress.total, progress.current]
    for each in trackers:
        each.processed = each.completed = each.ready
