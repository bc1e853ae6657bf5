"""Keeps the state of a loss in float32 or better."""

from typing import Any, Self

from torch import Tensor, nn

from lossframe.losses.base.inputs import at_least_float32, is_narrow


class WideState(nn.Module):
    """Keeps the buffers and parameters of a module in float32 or better, whatever dtype the model is cast to.

    The module follows a model to another device and to float64. Half precision would round small updates of a center
    away, so that the module ignores a cast to half precision.
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
        """Apply a move or a cast to the state, except a cast to half precision."""

        def wide(tensor: Tensor) -> Tensor:
            moved: Tensor = fn(tensor)
            return tensor.to(moved.device) if is_narrow(moved) and not is_narrow(tensor) else moved

        super()._apply(wide, recurse)
        return self
