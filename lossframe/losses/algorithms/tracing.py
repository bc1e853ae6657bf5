"""What follows the operations on a tensor, and so decides which operations a formula may use."""

import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual


def is_traced(tensor: Tensor) -> bool:
    """Return whether a compiler, a transform of `torch.func` or forward-mode AD follows operations on the tensor.

    All of these differentiate plain operations, and no `torch.autograd.Function` that computes its own gradient.
    """
    return torch.compiler.is_compiling() or _is_transformed() or unpack_dual(tensor).tangent is not None


def is_readable(tensor: Tensor) -> bool:
    """Return whether Python may read values of the tensor: possible, and without waiting for a device."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling() and not _is_transformed()


def is_batch(gradient: Tensor) -> bool:
    """Return whether a gradient in backward stands for several, as `is_grads_batched=True` and `vmap` have it.

    Such a tensor has the shape of one gradient. Nothing of it can be written into an ordinary tensor.
    """
    # is_grads_batched is built on an older vmap than that of torch.func
    return torch._C._functorch.is_legacy_batchedtensor(gradient) or _is_transformed()


def _is_transformed() -> bool:
    return torch._C._are_functorch_transforms_active()
