"""Command lines, composed and checked in this process as the command `train` does, without training."""

from collections.abc import Iterator
from contextlib import contextmanager

from conftest import ROOT
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from lossframe.training import run
from lossframe.training.checks import composed
from lossframe.training.checks.user_errors import explain
from lossframe.training.configuration import composition
from lossframe.training.configuration.arguments import normalised


@contextmanager
def typed(*arguments: str) -> Iterator[DictConfig]:
    """Compose a command line, and let this process know it as Hydra's running command."""
    overrides = normalised([*arguments, "trainer.enable_progress_bar=false"])
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            config = compose("train", overrides, return_hydra_config=True)
            HydraConfig.instance().set_config(config)
            yield config
    finally:
        HydraConfig.instance().cfg = None
        GlobalHydra.instance().clear()


def of_run(config: DictConfig) -> DictConfig:
    """Return the configuration that a run gets: without Hydra's section, and prepared."""
    return composition.prepared(OmegaConf.masked_copy(config, [key for key in config if key != "hydra"]))


def refusal(*arguments: str) -> str | None:
    """Return the line that refuses a command line before training; None if it is accepted."""
    config = None
    try:
        with typed(*arguments) as config:
            composed.check(config)
            run.check(of_run(config), load=False)
    except Exception as error:
        line = explain(error, config)
        if line is None:
            raise
        return line
    return None
