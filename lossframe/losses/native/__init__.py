"""Makes any callable or module of another library a `Loss`."""

from lossframe.losses.native.native_loss import NativeLoss

__all__ = ["NativeLoss"]
