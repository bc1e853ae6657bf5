"""Formulae through `torch.compile`, and losses in a step that somebody else compiles."""

from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from lossframe.errors import InputError


def outside(module: nn.Module, method: str, *args: Any, **kwargs: Any) -> Any:
    """Return `module.method(...)`, called outside of the graph that is being traced."""
    from lossframe.losses.base import disabled  # noqa: PLC0415 - torch's compiler is there by now

    return disabled.call(module, method, *args, **kwargs)


class Compiled:
    """Calls a function through `torch.compile`; a copy, or what is unpickled, compiles anew."""

    def __init__(self) -> None:
        self._compiled: Callable[..., Tensor] | None = None
        self.logged: list[tuple[str, Tensor | float]] | None = None
        """What the function logs, while it is called."""

    def __call__(self, function: Callable[..., Tensor], inputs: Mapping[str, Any]) -> Tensor:
        """Return `function(**inputs)`; the function is that of the first call."""
        if self._compiled is None:
            self._compiled = torch.compile(function)
        try:
            return self._compiled(**inputs)
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = str(error).strip().splitlines()[0]
            raise InputError(
                f"compile=True wants what torch.compile can compile and, on a CPU, a C++ compiler; found: {reason}. "
                "Install g++, or name a compiler by CXX; or leave compile=False"
            ) from error

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        return type(self), ()
