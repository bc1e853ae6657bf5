"""Answers what follows the operations on a tensor, which decides what operations a formula may use.

No other module of the losses asks `torch.compiler` or torch's private interfaces of `torch.func`.
"""

import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual

from lossframe.errors import InputError


def is_traced(tensor: Tensor) -> bool:
    """Return whether a compiler, a transform of `torch.func` or forward-mode AD follows operations on the tensor.

    All of these differentiate plain operations, and no `torch.autograd.Function` that computes its own gradient.
    """
    return is_compiled() or is_transformed() or unpack_dual(tensor).tangent is not None


def is_readable(tensor: Tensor) -> bool:
    """Return whether Python may read values of the tensor: possible, and without waiting for a device."""
    return tensor.device.type == "cpu" and not is_compiled() and not is_transformed()


def is_compiled() -> bool:
    """Return whether `torch.compile` or `torch.export` records the operations."""
    return torch.compiler.is_compiling()


def is_transformed() -> bool:
    """Return whether a transform of `torch.func` is active, as `vmap` or `grad`."""
    return torch._C._are_functorch_transforms_active()


def is_autocast(device: str) -> bool:
    """Return whether operations on a device are in autocast; an `InputError` names a device that does not compute."""
    try:
        return torch.is_autocast_enabled(device)
    except RuntimeError as error:
        raise InputError(f"wanted inputs on a device that computes, found them on {device!r}") from error


def is_batch(gradient: Tensor) -> bool:
    """Return whether a gradient in backward stands for several, as in `is_grads_batched=True` and `vmap`.

    Such a tensor has the shape of one gradient. Nothing of it can be written into an ordinary tensor.
    """
    return is_grads_batched(gradient) or is_transformed()


def is_grads_batched(gradient: Tensor) -> bool:
    """Return whether a gradient in backward stands for several, as in `is_grads_batched=True` alone.

    That option is built on an older vmap than that of `torch.func`, which does not see how a
    `torch.autograd.Function` that is called in backward is differentiated again.
    """
    return not is_compiled() and torch._C._functorch.is_legacy_batchedtensor(gradient)


def is_mapped(tensor: Tensor) -> bool:
    """Return whether `torch.vmap` maps over the tensor, at any level of transforms."""
    while is_wrapped(tensor):
        if torch._C._functorch.is_batchedtensor(tensor):
            return True
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return False


def is_wrapped(tensor: Tensor) -> bool:
    """Return whether a transform of `torch.func` wraps the tensor, whose memory is then out of sight."""
    return torch._C._functorch.is_functorch_wrapped_tensor(tensor)
