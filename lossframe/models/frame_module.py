"""Makes a model of an existing module, whose forward takes and returns tensors."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from lossframe.errors import InputError, names


class FrameModule(nn.Module):
    """Calls a module with entries of the frame, and names what it returns.

    `inputs` names the entries that are the module's positional arguments, in order. `outputs` names the results: of one
    tensor, of each element of a tuple or list, or of a mapping, whose other results are left out. A configuration
    makes a model of any module in this way, without code:

    >>> import torch
    >>> model = FrameModule(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), inputs="image", outputs="logits")
    >>> model({"image": torch.zeros(5, 1, 8, 8)})["logits"].shape
    torch.Size([5, 10])
    """

    def __init__(self, module: nn.Module, inputs: str | Sequence[str], outputs: str | Sequence[str]) -> None:
        super().__init__()
        if not isinstance(module, nn.Module):
            raise InputError(f"FrameModule: wanted module as a torch.nn.Module, found {type(module).__name__}")
        self.module = module
        self.inputs = [inputs] if isinstance(inputs, str) else list(inputs)
        self.outputs = [outputs] if isinstance(outputs, str) else list(outputs)
        self.provides = frozenset(self.outputs)

    def forward(self, frame: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return the entries that the model adds to the frame."""
        if missing := [entry for entry in self.inputs if entry not in frame]:
            raise InputError(f"{self._name} reads {names(missing)}, but the frame holds only {names(frame)}")
        result = self.module(*[frame[entry] for entry in self.inputs])
        if isinstance(result, Mapping):
            if missing := [entry for entry in self.outputs if entry not in result]:
                raise InputError(f"{self._name}: wanted the outputs {names(missing)}, found {names(result)}")
            return {entry: result[entry] for entry in self.outputs}
        values = list(result) if isinstance(result, tuple | list) else [result]
        if len(values) != len(self.outputs):
            raise InputError(f"{self._name}: wanted {names(self.outputs)}, found {len(values)} results; name each one")
        return dict(zip(self.outputs, values, strict=True))

    @property
    def _name(self) -> str:
        return f"FrameModule of {type(self.module).__name__}"
