"""Checkpoints that stay right when the folder they are in is moved."""

from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import ModelCheckpoint


class MovableCheckpoint(ModelCheckpoint):
    """Lightning's `ModelCheckpoint`, which remembers its best scores also in a folder that was moved or copied.

    Lightning's own would forget them, write over a better checkpoint, and test that of the former folder.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the state was made, with the same files in the folder of today if they are there."""
        before, now = str(state_dict.get("dirpath") or self.dirpath), str(self.dirpath)

        def moved(value: Any) -> Any:
            if isinstance(value, dict):
                return {moved(key): moved(each) for key, each in value.items()}
            if isinstance(value, str) and value.startswith(before):
                return f"{now}{value[len(before) :]}"
            return value

        here = moved(state_dict)
        super().load_state_dict(here if Path(here["best_model_path"]).is_file() else state_dict)
