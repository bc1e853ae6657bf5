"""Lightning callbacks and plugins that save checkpoints from which a training goes on bit for bit."""

from lossframe.callbacks.saving.files import AtomicCheckpointIO
from lossframe.callbacks.saving.generators import Generators
from lossframe.callbacks.saving.last import LastCheckpoint

__all__ = ["AtomicCheckpointIO", "Generators", "LastCheckpoint"]
