"""Compiles formulas with `torch.compile`, and calls losses outside the graph of a step that is compiled as a whole."""

from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from lossframe.errors import InputError


def outside(module: nn.Module, method: str, *args: Any, **kwargs: Any) -> Any:
    """Call `module.method(...)` outside the graph that is being traced, and return its result."""
    from lossframe.losses.base import untraced  # noqa: PLC0415 - importing it imports torch's compiler: a second

    return untraced.call(module, method, *args, **kwargs)


class Compiled:
    """Calls the formula of one loss through `torch.compile`; copies and unpickled objects compile the formula anew."""

    def __init__(self) -> None:
        self._compiled: Callable[..., Tensor] | None = None
        self.logged: list[tuple[str, Tensor | float, Tensor | float]] = []
        """Names, values and counts that the formula logs in the current call: further outputs of the graph."""
        self.running = False

    def __call__(self, formula: Callable[..., Tensor], inputs: Mapping[str, Any]) -> Tensor:
        """Return `formula(**inputs)`. The formula of the first call is compiled, and serves all later calls."""
        if self._compiled is None:
            self._compiled = torch.compile(formula)
        self.logged, self.running = [], True
        try:
            return self._call(self._compiled, inputs)
        finally:
            self.running = False

    def _call(self, compiled: Callable[..., Tensor], inputs: Mapping[str, Any]) -> Tensor:
        """Call the compiled formula, and raise an `InputError` where compilation fails."""
        try:
            return compiled(**inputs)
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = str(error).strip().splitlines()[0]
            raise InputError(
                f"compile=True wants what torch.compile can compile and, on a CPU, a C++ compiler; found: {reason}. "
                "Install g++, or name a compiler by CXX; or leave compile=False"
            ) from error

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        return type(self), ()
