"""Writing curves of several stages into any of Lightning's loggers."""

from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from lossframe.csv_logger import ResumableCSVLogger


class Board:
    """Writes scalars: into one TensorBoard run per stage, so that stages share a chart; elsewhere as `stage/tag`."""

    def __init__(self) -> None:
        self.written: dict[str, int] = {}
        self.resumed = False
        self._kept = False
        self._writers: dict[tuple[int, str], SummaryWriter] = {}

    def write(self, loggers: list[Any], stage: str, scalars: dict[str, float], step: int) -> None:
        """Write one point of each curve."""
        if self.resumed and not self._kept:
            self._kept = True
            for logger in loggers:
                if isinstance(logger, ResumableCSVLogger):
                    logger.keep(self.written)
        for writer in self.writers(loggers, stage):
            for tag, value in scalars.items():
                writer.add_scalar(tag, value, step)
            writer.flush()
        for logger in loggers:
            if not is_tensorboard(logger):
                logger.log_metrics({f"{stage}/{tag}": value for tag, value in scalars.items()}, step=step)
                logger.save()
        self.written[stage] = step

    def writers(self, loggers: list[Any], stage: str) -> list[SummaryWriter]:
        """Return the stage's writer of each TensorBoard logger; a run has no other, for TensorBoard reads only one."""
        return [self._writer(logger, stage) for logger in loggers if is_tensorboard(logger)]

    def close(self) -> None:
        """Close the event files."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def _writer(self, logger: Any, stage: str) -> SummaryWriter:
        """Open a stage's run; after a resume, what an earlier process wrote beyond the checkpoint is purged."""
        key = (id(logger), stage)
        if key not in self._writers:
            purge = self.written.get(stage, -1) + 1 if self.resumed else None
            self._writers[key] = SummaryWriter(str(Path(logger.log_dir) / stage), purge_step=purge)
        return self._writers[key]


def is_tensorboard(logger: Any) -> bool:
    """Recognise TensorBoard's logger of either Lightning package, without opening a run for nothing."""
    return any(kind.__name__ == "TensorBoardLogger" for kind in type(logger).__mro__)
