"""Keeps checkpoints valid when their run directory is moved or copied."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor

from lossframe import saved
from lossframe.callbacks.unsaved import is_unsaved

_OF_THE_BEST = ("best_model_path", "best_model_score", "kth_best_model_path", "kth_value", "current_score")
"""What Lightning's callback says of the best checkpoints, before it saves them."""
_SCORE = saved.Maybe(Tensor | int | float)
_STATE = {
    "monitor": saved.Maybe(str), "best_model_score": _SCORE, "best_model_path": str, "current_score": _SCORE,
    "dirpath": saved.Maybe(str), "best_k_models": {...: Tensor | int | float}, "kth_best_model_path": str,
    "kth_value": _SCORE, "last_model_path": str,
}  # fmt: skip
"""The form of what Lightning's callback saves."""


class MovableCheckpoint(ModelCheckpoint):
    """Extends Lightning's `ModelCheckpoint` to keep its best scores in a run directory that was moved or copied.

    Lightning's own callback would drop the scores, overwrite a better checkpoint, and test the one in the former place.
    A checkpoint that cannot be written, see `TolerantCheckpointIO`, is not taken for the best: the earlier one stays,
    with its own score.
    """

    _is_unsaved = False

    def _save_checkpoint(self, trainer: pl.Trainer, filepath: str) -> None:
        super()._save_checkpoint(trainer, filepath)
        self._is_unsaved = is_unsaved(trainer, filepath)

    def _update_best_and_save(
        self, current: Tensor, trainer: pl.Trainer, monitor_candidates: dict[str, Tensor]
    ) -> None:
        before = {name: getattr(self, name) for name in _OF_THE_BEST} | {"best_k_models": dict(self.best_k_models)}
        super()._update_best_and_save(current, trainer, monitor_candidates)
        if self._is_unsaved:
            vars(self).update(before)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state, with all paths in the current directory if the best checkpoint is there."""
        saved.check(state_dict, _STATE, type(self).__name__)
        before, now = str(state_dict.get("dirpath") or self.dirpath), str(self.dirpath)

        def moved(value: Any) -> Any:
            if isinstance(value, dict):
                return {moved(key): moved(each) for key, each in value.items()}
            if isinstance(value, str) and value.startswith(before):
                return f"{now}{value[len(before) :]}"
            return value

        here = moved(state_dict)
        super().load_state_dict(here if Path(here["best_model_path"]).is_file() else state_dict)
