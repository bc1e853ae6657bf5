"""Calls functions right after hooks of a LightningModule, where Lightning calls no callback."""

from collections.abc import Callable, Mapping
from types import MethodType
from typing import Any

import pytorch_lightning as pl


class FollowedHook:
    """Replaces a hook of one module: calls the hook, then a function. Copies of the module have the plain hook."""

    def __init__(self, module: pl.LightningModule, name: str, then: Callable[[], None]) -> None:
        self.own = module.__dict__.get(name)
        """The hook that was set on the instance itself, if any."""
        self.__wrapped__ = getattr(module, name)  # Lightning's `is_overridden` looks here
        self._module = module
        self._name = name
        self._then = then

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the hook, then the function."""
        result = self.__wrapped__(*args, **kwargs)
        self._then()
        return result

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        copied = memo.get(id(self._module), self._module)
        return self.own or MethodType(getattr(type(copied), self._name), copied)

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self._module, self._name)


def follow(module: pl.LightningModule, after: Mapping[str, Callable[[], None]]) -> None:
    """Call a function after each of the named hooks of a module, until `unfollow`."""
    unfollow(module)
    for name, then in after.items():
        module.__dict__[name] = FollowedHook(module, name, then)


def unfollow(module: pl.LightningModule) -> None:
    """Restore the hooks of a module."""
    followed = {name: hook for name, hook in module.__dict__.items() if isinstance(hook, FollowedHook)}
    for name, hook in followed.items():
        del module.__dict__[name]
        if hook.own is not None:
            module.__dict__[name] = hook.own


def overrides(module: pl.LightningModule, name: str) -> bool:
    """Return whether a module has a hook of its own, in its class or set on the instance."""
    hook = module.__dict__.get(name)
    if hook is not None and not (isinstance(hook, FollowedHook) and hook.own is None):
        return True
    classes = type(module).__mro__
    own = next(k for k, each in enumerate(classes) if each.__name__ == "LightningModule")  # of either package
    return any(name in each.__dict__ for each in classes[:own])
