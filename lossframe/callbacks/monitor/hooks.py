"""Calls functions right before and after hooks of a LightningModule, where Lightning calls no callback."""

from collections.abc import Callable, Mapping
from types import MethodType
from typing import Any

import pytorch_lightning as pl

Function = Callable[[], None]


class SurroundedHook:
    """Replaces a hook of one module: calls functions before and after it. Copies of the module have the plain hook."""

    def __init__(self, module: pl.LightningModule, name: str, before: Function | None, after: Function | None) -> None:
        self.own = module.__dict__.get(name)
        """The hook that was set on the instance itself, if any."""
        self.__wrapped__ = getattr(module, name)  # Lightning's `is_overridden` looks here
        self._module = module
        self._name = name
        self._before = before
        self._after = after

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function before, the hook, and the function after it."""
        if self._before is not None:
            self._before()
        result = self.__wrapped__(*args, **kwargs)
        if self._after is not None:
            self._after()
        return result

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        copied = memo.get(id(self._module), self._module)
        return self.own or MethodType(getattr(type(copied), self._name), copied)

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self._module, self._name)


def surround(module: pl.LightningModule, before: Mapping[str, Function], after: Mapping[str, Function]) -> None:
    """Call functions before and after the named hooks of a module, until `release`."""
    release(module)
    for name in dict.fromkeys([*before, *after]):
        module.__dict__[name] = SurroundedHook(module, name, before.get(name), after.get(name))


def release(module: pl.LightningModule) -> None:
    """Restore the hooks of a module."""
    surrounded = {name: hook for name, hook in module.__dict__.items() if isinstance(hook, SurroundedHook)}
    for name, hook in surrounded.items():
        del module.__dict__[name]
        if hook.own is not None:
            module.__dict__[name] = hook.own


def overrides(module: pl.LightningModule, name: str) -> bool:
    """Return whether a module has a hook of its own, in its class or set on the instance."""
    hook = module.__dict__.get(name)
    if hook is not None and not (isinstance(hook, SurroundedHook) and hook.own is None):
        return True
    classes = type(module).__mro__
    own = next(k for k, each in enumerate(classes) if each.__name__ == "LightningModule")  # of either package
    return any(name in each.__dict__ for each in classes[:own])
