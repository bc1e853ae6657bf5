"""The way out of a graph that is being traced. To import this imports torch's compiler, which takes a second."""

from typing import Any

import torch
from torch import nn

_left: set[type[nn.Module]] = set()


@torch.compiler.disable  # type: ignore[untyped-decorator]
def call(module: nn.Module, method: str, *args: Any, **kwargs: Any) -> Any:
    """Return `module.method(...)`, of which nothing is traced.

    From then on `forward` of its class is not traced either: one trace of it would be made for each kind of input of
    all losses, up to torch's limit.
    """
    kind = type(module)
    if kind not in _left:
        _left.add(kind)
        kind.forward = torch.compiler.disable(kind.forward)
    return getattr(module, method)(*args, **kwargs)
