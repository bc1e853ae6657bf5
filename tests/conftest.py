"""Fixtures that compose and start runs, in this process or as a user does."""

import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from forked import ROOT, Completed, Forked, on_ranks, run_script
from hydra import compose, initialize_config_dir
from hypothesis import settings
from logs import own_log_handlers
from omegaconf import DictConfig
from pool import Pool

import lossframe.training.run_folder.hydra_defaults  # noqa: F401 - registers what conf/ reads

settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")
sys.path.insert(0, str(ROOT))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that hold slow tests: with `-n 2` both processes then end at about the same time."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture
def configure(tmp_path: Path) -> Callable[..., DictConfig]:
    """Compose conf/train.yaml with overrides; the run directory is temporary and the terminal quiet."""

    def configured(*overrides: str) -> DictConfig:
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            return compose("train", [f"run_dir={tmp_path}", "trainer.enable_progress_bar=false", *overrides])

    return configured


@pytest.fixture(autouse=True)
def logging_of_this_test() -> Iterator[None]:
    """Undo what commands in this process do to logging."""
    logging.getLogger().setLevel(logging.WARNING)  # which a fixture of a module may have changed
    with own_log_handlers():
        yield


@pytest.fixture
def command(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Completed]:
    """Run `python train.py ...` as a user does, in a folder that is not the project's."""
    logs = tmp_path_factory.mktemp("logs")

    def run(*arguments: str, **environment: str) -> Completed:
        threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}  # the tests share the cores
        script = Forked(
            run_script, ROOT / "train.py", list(arguments), folder=tmp_path, logs=logs,
            environment={**threads, "HYDRA_FULL_ERROR": "0", **environment},
        )  # fmt: skip
        return script.end(300)

    return run


@pytest.fixture
def on_each_rank(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., None]:
    """Run `train.py ...` on ranks that torchrun would have started, as `command` does on one; all must succeed."""
    logs = tmp_path_factory.mktemp("logs")

    def run(ranks: int, *arguments: str) -> None:
        chosen = [] if any(each.startswith(("trainer=", "ckpt=")) for each in arguments) else ["trainer=ddp_cpu"]
        options = [*chosen, f"trainer.devices={ranks}", *arguments]
        for process in on_ranks(ranks, ROOT / "train.py", options, tmp_path, logs):
            result = process.end(300)
            assert result.returncode == 0, result.stderr

    return run


@pytest.fixture
def threads() -> Iterator[None]:
    """Give back the number of threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def pool() -> Iterator[Pool]:
    """Three gloo ranks for the whole session."""
    ranks = Pool(3)
    yield ranks
    ranks.close()
