"""Calls methods outside the graph that `torch.compile` traces. Importing this module imports the compiler: a second."""

from typing import Any

import torch
from torch import nn

_left: set[type[nn.Module]] = set()
"""Classes whose `forward` is excluded from tracing."""


@torch.compiler.disable  # type: ignore[untyped-decorator]
def call(module: nn.Module, method: str, *args: Any, **kwargs: Any) -> Any:
    """Call `module.method(...)` without tracing it, and return its result.

    The first call also excludes `forward` of the module's class from tracing. Otherwise torch would trace `forward`
    once for each kind of input of all losses, up to its limit.
    """
    kind = type(module)
    if kind not in _left:
        _left.add(kind)
        kind.forward = torch.compiler.disable(kind.forward)
    return getattr(module, method)(*args, **kwargs)
