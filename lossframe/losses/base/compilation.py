"""Compiles formulae by `torch.compile`, and keeps losses out of a step that is compiled as a whole."""

from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from lossframe.errors import InputError


def outside(module: nn.Module, method: str, *args: Any, **kwargs: Any) -> Any:
    """Return `module.method(...)`, called outside of the graph that is being traced."""
    from lossframe.losses.base import untraced  # noqa: PLC0415 - importing it imports torch's compiler: a second

    return untraced.call(module, method, *args, **kwargs)


class Compiled:
    """Calls a formula by `torch.compile`; a copy, or an unpickled object, compiles anew."""

    def __init__(self) -> None:
        self._compiled: Callable[..., Tensor] | None = None
        self.logged: list[tuple[str, Tensor | float]] = []
        """The values that the formula logged in the current call: they leave the graph beside its result."""
        self.running = False

    def __call__(self, formula: Callable[..., Tensor], inputs: Mapping[str, Any]) -> Tensor:
        """Return `formula(**inputs)`; the formula is that of the first call."""
        if self._compiled is None:
            self._compiled = torch.compile(formula)
        self.logged, self.running = [], True
        try:
            return self._call(self._compiled, inputs)
        finally:
            self.running = False

    def _call(self, compiled: Callable[..., Tensor], inputs: Mapping[str, Any]) -> Tensor:
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
