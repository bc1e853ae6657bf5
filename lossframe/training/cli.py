"""The command `train`: composes a configuration by Hydra, starts the ranks of this machine, and runs the training."""

import os
import sys
from pathlib import Path
from typing import cast

import hydra
from hydra.conf import HydraConf
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from lossframe import configs
from lossframe.training import composition, launch, resume, run_dir
from lossframe.training.user_errors import explain

RANK_CONFIG = "LOSSFRAME_RANK_CONFIG"
"""The environment variable by which rank 0 hands its resolved configuration, as YAML, to the ranks that it starts."""

_RANK_COMMAND = launch.this_command()  # before Hydra changes the working directory, if hydra.job.chdir=true

os.environ.setdefault("GOMP_SPINCOUNT", "5000")  # idle threads sleep after 0.1 ms; see docs/performance.md
OmegaConf.register_new_resolver("terms", lambda _, *, _root_: "+".join(composition.terms(_root_)), replace=True)
OmegaConf.register_new_resolver("started", launch.started, replace=True)
OmegaConf.register_new_resolver(
    "run_dir", lambda ckpt, new: str(resume.run_dir_of(ckpt)) if ckpt else new, replace=True
)

_HYDRA_DEFAULTS = HydraConf(output_subdir=None)  # Hydra would write .hydra/ before the run's directory is locked
if not launch.is_first():  # only rank 0 writes train.log
    _HYDRA_DEFAULTS.defaults.remove({"job_logging": "default"})
    _HYDRA_DEFAULTS.defaults.append({"job_logging": "disabled"})
ConfigStore.instance().store("config", _HYDRA_DEFAULTS, group="hydra", provider="lossframe")


def main(arguments: list[str]) -> None:
    """Train as command line arguments say; exit with one line if the input is wrong.

    Other errors, and with HYDRA_FULL_ERROR=1 all errors, end in a traceback.
    """
    traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        if RANK_CONFIG in os.environ:
            _run(cast(DictConfig, OmegaConf.create(os.environ[RANK_CONFIG])), {})
        else:
            composition.check_arguments(arguments)
            sys.argv[1:] = resume.expand(arguments)  # Hydra reads sys.argv
            _train()
    except Exception as error:
        message = explain(error)
        if traceback or message is None:
            raise
        sys.exit(f"error: {message}")


@hydra.main(version_base="1.3", config_path=str(configs.root()), config_name="train")
def _train(config: DictConfig) -> float | None:
    """Train one composed configuration on all ranks of this machine, and return the score that a sweep optimises."""
    config = composition.prepared(config)
    if composition.unresolved(config):
        from lossframe.training import preflight  # torch takes seconds

        preflight.check_composition(config)
    folder = Path(HydraConfig.get().runtime.output_dir)
    config.run_dir = str(folder)
    records = _records(config)
    ranks = launch.number_of_devices(config.trainer.accelerator, config.trainer.devices)
    with (
        run_dir.locked(folder, resume=bool(config.ckpt)),
        launch.local_ranks(ranks, _RANK_COMMAND, {RANK_CONFIG: records[run_dir.RESOLVED]}),
    ):
        return _run(config, records)


def _run(config: DictConfig, records: dict[str, str]) -> float | None:
    from lossframe.training.run import run  # torch takes seconds: a wrong configuration is refused without it

    return run(config, records)


def _records(config: DictConfig) -> dict[str, str]:
    """Return the files that let a run be read, repeated and resumed: path in its directory -> text."""
    hydra_config = HydraConfig.get()
    overrides = cast(list[str], OmegaConf.to_container(hydra_config.overrides.task))
    repeatable = config.copy()
    repeatable.ckpt = repeatable.run_dir = None  # a repetition starts from new weights, in a directory of its own
    return {
        run_dir.RESOLVED: OmegaConf.to_yaml(config, resolve=True),
        resume.OVERRIDES: OmegaConf.to_yaml([*resume.config_flags(), *overrides]),
        ".hydra/config.yaml": OmegaConf.to_yaml(repeatable),
        ".hydra/hydra.yaml": OmegaConf.to_yaml({"hydra": hydra_config}),
        ".hydra/overrides.yaml": OmegaConf.to_yaml(overrides),
    }
