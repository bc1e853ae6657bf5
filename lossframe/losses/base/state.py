"""Keeps the state of a loss in float32 or better."""

from typing import Any, Self

from torch import Tensor, nn

from lossframe.losses.base.inputs import at_least_float32, is_narrow


class WideState(nn.Module):
    """A module whose buffers and parameters are float32 or better, whatever its model or the default dtype is cast to.

    It follows a model to another device, and to float64; never to half precision, in which a center would stand still.
    """

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Register a buffer in float32 or better."""
        super().register_buffer(name, None if tensor is None else at_least_float32(tensor), persistent)

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        """Register a parameter in float32 or better."""
        if param is not None:
            param.data = at_least_float32(param.data)
        super().register_parameter(name, param)

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        def wide(tensor: Tensor) -> Tensor:
            moved: Tensor = fn(tensor)
            return tensor.to(moved.device) if is_narrow(moved) and not is_narrow(tensor) else moved

        super()._apply(wide, recurse)
        return self
