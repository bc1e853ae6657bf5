"""Train a model on losses composed from conf/: `python train.py loss=triplet`; `python train.py --help` lists more."""

import json
import logging
import os
import re
import select
import sys
import textwrap
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO, cast

import hydra
from hydra.conf import HydraConf
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException, MissingConfigException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lossframe import configs
from lossframe.errors import InputError, names, nearest
from lossframe.training import launch, run_dir

USAGE = """\
python train.py [GROUP=CHOICE ...] [KEY=VALUE ...]
python train.py 'loss=[triplet,center]'      several losses
python train.py -m loss=triplet,contrastive  a sweep: a run for each
python train.py --cfg job                    the configuration alone
python train.py --hydra-help                 more options
"""
RANK_CONFIG = "LOSSFRAME_RANK_CONFIG"
"""Where rank 0 says to the other ranks of its machine what to run."""

os.environ.setdefault("GOMP_SPINCOUNT", "5000")  # threads that wait spin 0.1 ms, not 10: that stalls ranks and loaders
OmegaConf.register_new_resolver("terms", "+".join, replace=True)
OmegaConf.register_new_resolver("started", launch.started, replace=True)
OmegaConf.register_new_resolver(
    "run_folder", lambda ckpt, fresh: str(Path(ckpt).absolute().parent.parent) if ckpt else fresh, replace=True
)

_of_hydra = HydraConf(output_subdir=None)  # it would be written before the folder is known to be free
if not launch.is_first():  # the first rank keeps the log
    _of_hydra.defaults.remove({"job_logging": "default"})
    _of_hydra.defaults.append({"job_logging": "disabled"})
ConfigStore.instance().store("config", _of_hydra, group="hydra", provider="train.py")


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def train(config: DictConfig) -> float | None:
    """Fit, test the best checkpoint, and return the validation score that chose it."""
    hydra_config = HydraConfig.get()
    given = cast(list[str], OmegaConf.to_container(hydra_config.overrides.task))  # with what they refer to, as typed
    repeated = config.copy()
    repeated.ckpt = None  # a repetition starts anew
    folder = Path(hydra_config.runtime.output_dir)
    config.run_dir = str(folder)
    records = {
        run_dir.RESOLVED: OmegaConf.to_yaml(config, resolve=True),
        run_dir.OVERRIDES: OmegaConf.to_yaml([*other_config(), *given]),
        ".hydra/config.yaml": OmegaConf.to_yaml(repeated),
        ".hydra/hydra.yaml": OmegaConf.to_yaml({"hydra": hydra_config}),
        ".hydra/overrides.yaml": OmegaConf.to_yaml(given),
    }
    number = launch.number_of_devices(config.trainer.accelerator, config.trainer.devices)
    with (
        run_dir.taken(folder, records, goes_on=bool(config.ckpt)),
        launch.local_ranks(number, [sys.executable, __file__], {RANK_CONFIG: str(folder / run_dir.RESOLVED)}),
    ):
        return run(config)


def run(config: DictConfig) -> float | None:
    """Do what `config` says, in the folder `config.run_dir`."""
    import pytorch_lightning as pl  # not before the configuration is known to be good: torch takes seconds

    from lossframe import Learner, Objective, distributed
    from lossframe.callbacks.graceful_stop import GracefulStop
    from lossframe.callbacks.rank_consistency import Agreement
    from lossframe.training import preflight
    from lossframe.training.config_types import misfits

    for noise in (
        "does not have many workers", "treespec, LeafSpec", "srun", "sync_dist=True", "logging interval",
        "directory .* exists and is not empty",  # of a run that goes on
        "could not find the monitored key",  # an error once something was validated
    ):  # fmt: skip
        warnings.filterwarnings("ignore", message=f".*{noise}.*")
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    plain = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    for wrong in misfits(plain):
        raise InputError(wrong)
    if not isinstance(config.seed, int) or not 0 <= config.seed < 2**32:
        raise InputError(f"seed={config.seed}: wanted a whole number from 0 to {2**32 - 1}")
    pl.seed_everything(config.seed, workers=True, verbose=False)
    part = {name: instantiate(config[name], _convert_="all") for name in ("loss", "metrics", "logger", "callbacks")}
    objective = Objective(part["loss"], config.weights, config.inputs)
    loggers, callbacks = list(part["logger"].values()), list(part["callbacks"].values())
    read = [metric["reads"] for metric in part["metrics"].values()] + [preflight.reads_of(each) for each in callbacks]
    heads = objective.reads.union(*read)
    learner = Learner(
        model=instantiate(config.model, heads=sorted(heads)),
        objective=objective,
        optimizer=instantiate(config.optimizer),
        scheduler=instantiate(config.scheduler),
        metrics=part["metrics"],
    )
    data = instantiate(config.data)
    preflight.check(objective, part["metrics"], data, learner.model, callbacks)
    if not config.trainer.enable_progress_bar:
        callbacks = [callback for callback in callbacks if not isinstance(callback, pl.callbacks.ProgressBar)]
    callbacks.append(Agreement(plain))
    callbacks.sort(key=lambda callback: isinstance(callback, GracefulStop))  # it stops when all have seen the batch
    trainer: pl.Trainer = instantiate(config.trainer, logger=loggers, callbacks=callbacks)
    trainer.fit(learner, data, ckpt_path=config.ckpt)
    best: Any = trainer.checkpoint_callback
    chosen = None if best is None else best.best_model_path or None  # none before the first validation
    score = None if best is None or best.best_model_score is None else float(best.best_model_score)
    trainer.test(learner, data, ckpt_path=chosen, verbose=False)
    if trainer.is_global_zero:
        report(Path(config.run_dir), trainer.callback_metrics, chosen)
    distributed.close()
    return score


def other_config() -> list[str]:
    """Return what chose another configuration than that of `conf`, if anything did."""
    hydra_config = HydraConfig.get()
    sources = {source.provider: source.path for source in hydra_config.runtime.config_sources}
    name, chosen = hydra_config.job.config_name, []
    if (Path(sources["main"]), name) != (Path(__file__).parent / "conf", "train"):
        chosen = [f"--config-path={sources['main']}", f"--config-name={name}"]
    if "command-line" in sources:
        chosen.append(f"--config-dir={sources['command-line']}")
    return chosen + [override for override in hydra_config.overrides.hydra if "hydra.searchpath=" in override]


def report(folder: Path, tested: Mapping[str, Any], checkpoint: str | None) -> None:
    """Print what came out and where it is, and keep it as metrics.json."""
    from rich.console import Console

    numbers = {name: float(value) for name, value in tested.items() if name.startswith("test/")}
    (folder / "metrics.json").write_text(json.dumps({**numbers, "checkpoint": checkpoint}, indent=2) + "\n")
    console = Console(soft_wrap=True, highlight=False)
    for name, value in numbers.items():
        if not re.search(r"_(std|min|max|p\d+)$|/share/", name):
            console.print(f"{name:<32} {value:.4f}")
    console.print(f"best checkpoint  {checkpoint or 'none; the last weights were tested'}")
    console.print(f"curves           tensorboard --logdir {folder}")


def overview(overrides: list[str]) -> str:
    """Return how to run this, what can be chosen, and what is: Hydra's own help takes twice as long."""
    with hydra.initialize(version_base="1.3", config_path="conf", job_name="train"):
        config = hydra.compose("train", overrides)
    choices = {group: ", ".join(configs.choices(group)) for group in configs.groups()}
    width = max(map(len, choices)) + 2
    groups = [
        textwrap.fill(known, 118, initial_indent=f"  {group:<{width}}", subsequent_indent=" " * (width + 2))
        for group, known in choices.items()
    ]
    return "\n".join(
        [USAGE, "GROUP", *groups, "\nKEY, with these choices", textwrap.indent(OmegaConf.to_yaml(config), "  ")]
    )


def explain(error: BaseException) -> str | None:
    """Return in one line what is wrong with what was given; None for a defect of the program."""
    chain = [error]
    while (cause := chain[-1].__cause__) is not None:
        chain.append(cause)
    message = None if not isinstance(error, HydraException | OmegaConfBaseException) else str(error)
    for link in chain:
        if isinstance(link, InputError) or type(link).__name__ == "MisconfigurationException":  # ours, and Lightning's
            message = str(link)
        elif isinstance(link, MissingConfigException) and link.missing_cfg_file:
            group, _, choice = link.missing_cfg_file.rpartition("/")
            known = link.options or configs.choices(group)  # of group=[several], Hydra tells no options
            message = f"{group or '--config-name'}={choice}: wanted one of {names(known)}.{nearest(choice, known)}"
        elif (
            isinstance(link, OmegaConfBaseException)
            and link.parent_node
            and str(link.key) not in map(str, link.parent_node)
        ):
            known = [str(key) for key in link.parent_node]
            message = f"{link.full_key}: wanted one of {names(known)}.{nearest(str(link.key), known)}"
        elif isinstance(link, OSError) and link.filename:
            message = f"{link.filename}: {link.strerror}"
        elif isinstance(link, InstantiationException):
            message = f"{message} ({str(link).rpartition('full_key: ')[2]})"
    return None if message is None else " ".join(message.split())


def is_read(stream: TextIO) -> bool:
    """Return whether the stream still reaches somebody: False for a pipe whose reader has ended."""
    poll = select.poll()
    poll.register(stream, 0)
    return not any(event & select.POLLERR for _, event in poll.poll(0))


def main() -> None:
    """Run; end what is wrong with the input in one line, and anything else (or HYDRA_FULL_ERROR=1) in a traceback."""
    whole = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        if RANK_CONFIG in os.environ:
            run(cast(DictConfig, OmegaConf.load(os.environ[RANK_CONFIG])))
        else:
            sys.argv[1:] = run_dir.going_on(sys.argv[1:])
            flags = {argument for argument in sys.argv[1:] if argument.startswith("-")}
            if flags and flags <= {"-h", "--help"}:
                print(overview([argument for argument in sys.argv[1:] if argument not in flags]))
            else:
                train()
        sys.stdout.flush()
    except BrokenPipeError:
        if is_read(sys.stdout):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader, as `| head`, has had enough
        sys.exit(1)
    except Exception as error:
        message = explain(error)
        if whole or message is None:
            raise
        sys.exit(f"error: {message}")


if __name__ == "__main__":
    main()
