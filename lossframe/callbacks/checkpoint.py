"""Keeps checkpoints valid when their run directory is moved or copied."""

from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import ModelCheckpoint


class MovableCheckpoint(ModelCheckpoint):
    """Extends Lightning's `ModelCheckpoint` to keep its best scores in a run directory that was moved or copied.

    Lightning's own callback would drop the scores, overwrite a better checkpoint, and test the one in the former place.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state, with all paths in the current directory if the best checkpoint is there."""
        before, now = str(state_dict.get("dirpath") or self.dirpath), str(self.dirpath)

        def moved(value: Any) -> Any:
            if isinstance(value, dict):
                return {moved(key): moved(each) for key, each in value.items()}
            if isinstance(value, str) and value.startswith(before):
                return f"{now}{value[len(before) :]}"
            return value

        here = moved(state_dict)
        super().load_state_dict(here if Path(here["best_model_path"]).is_file() else state_dict)
