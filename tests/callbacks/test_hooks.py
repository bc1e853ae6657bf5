"""A value that any hook of a LightningModule records lands in the curves of its stage and epoch, exactly once."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from monitor_module import OUTSIDE, SHARED, STAGES, Caller
from monitor_runs import outcome, runs
from monitor_setups import STEPS, Setup

ELSEWHERE = ("configure_model", "configure_optimizers", "on_save_checkpoint", "prepare_data", "setup", "teardown")
"""Hooks of no stage, in which a loss may still be called."""
EVALUATION = [hook for hook, stage in STAGES.items() if stage in ("val", "test")]


def setup(calls: dict[str, tuple[str, ...]], loaders: int = 1, log_every: int = 3) -> Setup:
    """Return a training of two epochs with a validation within and at the end of each, and evaluations after it."""
    return Setup(
        ranks=1,
        log_every=log_every,
        train=[[3, 1, 2, 4]],
        loaders=[[[2, 3]]] * loaders,
        trainer={"max_epochs": 2, "val_check_interval": 2, "num_sanity_val_steps": 1},
        calls=calls,
        callbacks=("LossMonitor",),
        saved=None,
        after=("validate", "test", "predict", "validate"),
        options={"log_std": True, "log_min": True, "log_max": True, "log_quantiles": False},
        seed=0,
    )


def with_steps(hook: str, *terms: str) -> dict[str, tuple[str, ...]]:
    """Return the calls of a module whose steps call `first`, and of which one hook calls further terms."""
    steps = dict.fromkeys(STEPS, ("first",))
    return steps | {hook: (*steps.get(hook, ()), *terms)}


def wrong_curves(made: Setup, folder: Path) -> str:
    """Return what is wrong with the curves of a set-up."""
    return "\n".join(outcome(made, folder, None, metrics=False))


def test_tables_list_every_hook_of_a_module() -> None:
    hooks = {name for name in dir(pl.LightningModule) if name.startswith("on_")}
    listed = {*STAGES, *SHARED, *OUTSIDE, *ELSEWHERE}
    assert hooks - listed == {"on_gpu", "on_load_checkpoint"}  # a property, and a hook before any training


@pytest.mark.parametrize("hook", [*STAGES, *SHARED, *OUTSIDE])
def test_value_of_hook_is_added_once_to_those_of_steps(hook: str, tmp_path: Path) -> None:
    assert not wrong_curves(setup(with_steps(hook, "first", "objective", "extra"), log_every=2), tmp_path)


@pytest.mark.parametrize("hook", [hook for hook in EVALUATION if "batch" not in hook and "step" not in hook])
def test_value_for_all_dataloaders_is_in_the_point_of_its_stage(hook: str, tmp_path: Path) -> None:
    assert not wrong_curves(setup(with_steps(hook, "whole"), loaders=2), tmp_path)


@pytest.mark.parametrize("hook", [hook for hook in EVALUATION if "batch" in hook])
def test_value_of_a_batch_belongs_to_its_dataloader(hook: str, tmp_path: Path) -> None:
    assert not wrong_curves(setup(with_steps(hook, "first", "extra"), loaders=2), tmp_path)


@pytest.mark.parametrize("hook", STAGES)
def test_hook_of_a_stage_writes_no_curve_of_another(hook: str, tmp_path: Path) -> None:
    (run,) = runs(0, setup({hook: ("whole",)}), tmp_path)
    assert any(entry.calls for entry in run.journal), "the hook was never called"
    assert {stage for stage, _, losses in run.points if "whole" in losses} == {STAGES[hook]} - {"predict"}


@pytest.mark.parametrize("hook", ELSEWHERE)
def test_value_outside_of_a_stage_is_in_no_evaluation(hook: str, tmp_path: Path) -> None:
    def called(self: Caller, *args: Any, **kwargs: Any) -> Any:
        self.whole(self.gain.detach().reshape(1))
        return getattr(Caller, hook)(self, *args, **kwargs)

    (run,) = runs(0, setup(dict.fromkeys(STEPS, ("first",))), tmp_path, type("Elsewhere", (Caller,), {hook: called}))
    assert {stage for stage, _, losses in run.points if "whole" in losses} <= {"train"}


@pytest.mark.parametrize("terms", [("first",), ("first", "centred", "objective", "extra")], ids=len)
def test_callbacks_and_users_read_the_means_of_an_epoch(terms: tuple[str, ...], tmp_path: Path) -> None:
    assert not "\n".join(outcome(setup(dict.fromkeys(STEPS, terms)), tmp_path, None))
