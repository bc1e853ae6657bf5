"""Every loss of a module is found under its author's name, and no two curves of a run share a tag."""

import copy
from argparse import Namespace
from collections import OrderedDict, UserDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from lightning_fabric import Fabric
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.fsdp import FullyShardedDataParallel

from lossframe import InputError, Loss, Objective
from lossframe.callbacks.monitor.discovery import find_sources, weights
from lossframe.callbacks.monitor.places import Watch
from lossframe.callbacks.monitor.strays import Strays
from lossframe.losses import HuberLoss, L1Loss, MSELoss

ONE = torch.ones(3)
Pair = namedtuple("Pair", ["near", "far"])


class Net(nn.Module):
    """A user's module whose loss is an attribute called `module`, as the attribute of a wrapper is."""

    def __init__(self) -> None:
        super().__init__()
        self.module = MSELoss()


@dataclass
class Criteria:
    """Plain attributes that hold losses."""

    first: Any = None
    more: list[Any] = field(default_factory=list)


def module_of(**attributes: Any) -> nn.Module:
    module = nn.Module()
    for name, value in attributes.items():
        setattr(module, name, value)
    return module


def names(module: nn.Module) -> set[str]:
    """Return the tags of the means of a module's losses, without `loss/`."""
    return {source.tag("loss").removeprefix("loss/") for source in find_sources(module).values() if source.loss}


def parallel(kind: type[nn.Module], attribute: str) -> Callable[[nn.Module], Any]:
    """Return a wrapper as it is after its constructor, which would need ranks and accelerators."""

    def wrap(module: nn.Module) -> nn.Module:
        wrapper = kind.__new__(kind)
        nn.Module.__init__(wrapper)
        wrapper._modules[attribute] = module
        return wrapper

    return wrap


def averaged(module: nn.Module) -> nn.Module:
    return torch.optim.swa_utils.AveragedModel(module)


def quantized(module: nn.Module) -> nn.Module:
    return torch.ao.quantization.QuantWrapper(module)


def compiled(module: nn.Module) -> Any:
    return torch.compile(module, backend="eager")


def fabricated(module: nn.Module) -> Any:
    return Fabric(accelerator="cpu", devices=1).setup(module)


def twice(module: nn.Module) -> nn.Module:
    return nn.DataParallel(compiled(module))


WRAPPERS: dict[str, Callable[[nn.Module], Any]] = {
    "none": lambda module: module, "compile": compiled, "DataParallel": nn.DataParallel, "averaged": averaged,
    "DDP": parallel(nn.parallel.DistributedDataParallel, "module"), "quantized": quantized, "both": twice,
    "FSDP": parallel(FullyShardedDataParallel, "_fsdp_wrapped_module"), "checkpointed": checkpoint_wrapper,
    "fabric": fabricated,
}  # fmt: skip


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_wrapped_module_has_the_names_of_the_plain_one(wrapper: str) -> None:
    wrap = WRAPPERS[wrapper]
    module = module_of(net=wrap(Net()), other=MSELoss(), criterion=wrap(L1Loss()))
    assert names(module) == {"net.module", "other", "l1"}
    both = module_of(a=wrap(Objective({"x": MSELoss()})), b=wrap(Objective({"x": MSELoss()})))
    assert names(both) == {"a.x", "b.x"}
    assert weights(find_sources(both)) == {"weight/a.x": 1.0, "weight/b.x": 1.0}


def test_compiled_module_around_the_losses_keeps_their_names() -> None:
    assert names(compiled(Net())) == names(Net()) == {"mse"}


PLAIN: dict[str, Any] = {
    "losses.0": lambda loss: [loss],
    "losses.1": lambda loss: (None, loss),
    "losses.b": lambda loss: {"a": 3, "b": loss},
    "losses.4": lambda loss: OrderedDict({4: loss}),
    "losses.user": lambda loss: UserDict(user=loss),
    "losses.a.1": lambda loss: {"a": [1, loss]},
    "losses.far": lambda loss: Pair(None, loss),
    "losses.first": Criteria,
    "losses.more.0": lambda loss: Criteria(more=[loss]),
    "losses.name": lambda loss: SimpleNamespace(name=loss),
    "losses.option": lambda loss: Namespace(option=loss),
    "losses.0.module": lambda loss: [module_of(module=loss)],
    "losses.x.y": lambda loss: {"x/y": loss},
}


@pytest.mark.parametrize("path", PLAIN)
@pytest.mark.parametrize("deep", [False, True])
def test_loss_in_a_plain_attribute_is_found_by_its_path(path: str, deep: bool) -> None:
    holder = module_of(losses=PLAIN[path](MSELoss()), registered=MSELoss(), also=L1Loss())
    module = module_of(net=holder, twin=MSELoss()) if deep else holder
    prefix = "net." if deep else ""
    assert names(module) == {f"{prefix}{path}", "l1", *(["net.registered", "twin"] if deep else ["mse"])}


def test_plain_loss_alone_is_named_by_its_class() -> None:
    assert names(module_of(losses=[MSELoss()], data=list(range(1000)), deep=[[[HuberLoss()]]])) == {"mse"}


def test_copies_of_losses_in_hyperparameters_are_not_found() -> None:
    class Module(pl.LightningModule):
        def __init__(self, criterion: Loss) -> None:
            super().__init__()
            self.criterion = criterion
            self.save_hyperparameters(logger=False)

    with pytest.warns(UserWarning, match="ignoring them|is already saved during checkpointing"):
        assert names(Module(MSELoss())) == {"mse"}


def test_second_reference_to_a_loss_is_named_by_the_first_path() -> None:
    loss = MSELoss()
    assert names(module_of(a=loss, b=loss, more=[loss], other=MSELoss())) == {"a", "other"}
    objective = Objective({"x": MSELoss()})
    assert set(find_sources(module_of(a=objective, b=[objective]))) == {"/objective a", "x"}


def test_loss_in_two_objectives_raises_an_error_that_names_both_terms() -> None:
    loss = MSELoss()
    module = module_of(near=Objective({"a": loss}), far=Objective({"b": loss}))
    with pytest.raises(InputError, match="term 'a' of objective 'near' and term 'b' of objective 'far' are one MSE"):
        find_sources(module)


def called(loss: Any, **logged: float) -> Any:
    loss(ONE, 0 * ONE)
    for name, value in logged.items():
        loss.log(name, value)
    return loss


def changes() -> dict[str, Callable[[nn.Module], Any]]:
    spare = L1Loss()
    return {
        "replaced by a new one": lambda module: setattr(module.net, "aux", MSELoss()),
        "replaced by an old one": lambda module: setattr(module.net, "aux", spare),
        "deleted": lambda module: delattr(module.net, "aux"),
        "parent replaced": lambda module: setattr(module, "net", nn.Linear(1, 1)),
        "entry replaced": lambda module: module.losses.__setitem__(0, spare),
        "list emptied": lambda module: module.losses.clear(),
        "made lazily": lambda module: setattr(module, "late", MSELoss()),
        "appended": lambda module: module.losses.append(MSELoss()),
        "copied": lambda module: setattr(module, "ema", copy.deepcopy(module.net)),
    }


@pytest.mark.parametrize("change", changes())
def test_watch_notices_a_changed_loss(change: str) -> None:
    act = changes()[change]
    module = module_of(net=module_of(aux=MSELoss()), losses=[L1Loss()], layer=nn.Linear(2, 2))
    watch = Watch(module)
    module.other = nn.Linear(2, 2)
    called(module.net.aux)
    assert not watch.changed()
    act(module)
    assert watch.changed()
    assert not Watch(module).changed()


def test_loss_that_records_outside_of_the_module_is_named_once() -> None:
    class Helper:
        def __init__(self) -> None:
            self.criterion = HuberLoss()

    helper, quiet, module = Helper(), called(L1Loss()), module_of(criterion=MSELoss(), other=object())
    known = [source.recorder for source in find_sources(module).values()]
    strays = Strays()
    strays.look(known)
    called(module.criterion)
    copied = copy.deepcopy(quiet)
    assert not strays.look(known)
    called(helper.criterion)
    assert strays.look(known) == ["HuberLoss"]
    called(helper.criterion)
    assert not strays.look(known)
    assert copied is not quiet
