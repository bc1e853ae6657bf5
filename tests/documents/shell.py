"""Follows the commands of the documents in this process: composes and checks trainings, and runs what is cheap."""

import os
import re
import shlex
import tomllib
from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path

from conftest import ROOT
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig
from torch.distributed.run import get_args_parser as get_torchrun_parser
from typed import of_run

from lossframe.__main__ import main
from lossframe.training import early_checks, run
from lossframe.training.checks import composed
from lossframe.training.configuration import project
from lossframe.training.configuration.arguments import normalised
from lossframe.training.run_folder import resume

OTHERS = (
    r"python3 -m venv \.venv", r"\. \.venv/bin/activate", r"(\.venv/bin/)?python -m pytest( -n 2)?",
    r"tensorboard --logdir \S+", r"wandb sync \S+/wandb/offline-run-\*",
    r"mlflow ui --backend-store-uri sqlite:///\S+/mlflow\.db", r"mkdocs (build --strict|serve)",
)  # fmt: skip
"""Programs that are not ours, in the forms in which the documents call them."""


def follow(command: str) -> None:
    """Follow a line of a shell; raise an error if it is wrong, or is none that is known here."""
    with chdir("."):
        for part in re.split(r"\s+&&\s+", command):
            obey(part)


def obey(command: str) -> None:
    """Follow one command; `cd` holds until the end of its line."""
    inner = re.fullmatch(r'eval "\$\((.*)\)"', command)
    words = shlex.split(inner[1] if inner else command)
    if words[0] == "torchrun":
        given = get_torchrun_parser().parse_args(["0" if word == "K" else word for word in words[1:]])
        words = ["python", *(["-m"] if given.module else []), given.training_script, *given.training_script_args]
    elif words[0] == "srun":
        words = words[1:]
    program = Path(words[0]).name
    if program == "lossframe":
        ours(words[1:])
    elif program == "python" and words[1:3] == ["-m", "lossframe"]:
        ours(words[3:])
    elif program == "python" and words[1] == "train.py":
        train(words[2:])
    elif program == "pip":
        install(words)
    elif program == "cd":
        os.chdir(words[1])
    else:
        assert any(re.fullmatch(form, command) for form in OTHERS), f"nobody checks this command: {command}"


def ours(words: Sequence[str]) -> None:
    """Run a command of lossframe; of a training, do what comes before it."""
    if words[0] == "train":
        train(words[1:])
    else:
        assert main(list(words)) == 0


def install(words: Sequence[str]) -> None:
    """Check that the extras which pip installs are there."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for word in words:
        if named := re.fullmatch(r"(?:\.|lossframe)\[(.*)\]", word):
            assert set(named[1].split(",")) <= set(extras), f"there is no such extra: {word}"
    assert words[1] == "install"
    assert "-c" not in words or (ROOT / words[words.index("-c") + 1]).exists()


def train(arguments: Sequence[str]) -> None:
    """Compose the configuration of a training or of a sweep's jobs, and check each as the command does."""
    flags, _ = get_args_parser().parse_known_intermixed_args(project.primary(resume.expand(normalised(arguments))))
    if flags.shell_completion:
        return
    places = create_config_search_path(str(Path(flags.config_path or ROOT / "conf").absolute()))
    if flags.config_dir:
        places.prepend("command-line", f"file://{Path(flags.config_dir).absolute()}", "schema")
    GlobalHydra.instance().clear()
    try:
        loader = Hydra.create_main_hydra2("train", places).config_loader
        mode = RunMode.MULTIRUN if flags.multirun else RunMode.RUN
        overrides = [*flags.overrides, *(["hydra.mode=MULTIRUN"] if flags.multirun else [])]  # as Hydra's main adds
        config = loader.load_configuration(flags.config_name or "train", overrides, mode)
        if not flags.help and not flags.cfg:
            check(config)
    finally:
        HydraConfig.instance().cfg = None
        GlobalHydra.instance().clear()


def check(config: DictConfig) -> None:
    """Check a run or the jobs of a sweep; of these, the values of all and the objects of the first and the last."""
    HydraConfig.instance().set_config(config)
    jobs = [config]
    if config.hydra.mode == RunMode.MULTIRUN:
        jobs = [job for _, job in early_checks._jobs(config)]
    for job in jobs:
        composed.check(job)
    for job in jobs[:: max(1, len(jobs) - 1)]:
        run.check(of_run(job), load=False)
