"""Runs in TensorBoard's HParams tab, read back by its own server: complete, killed and swept runs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT
from curves import read
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams.backend_context import Context
from tensorboard.plugins.hparams.list_session_groups import Handler

from lossframe import Learner
from lossframe.training.metrics import RetrievalMetrics
from lossframe.training.run import run

Configure = Callable[..., DictConfig]


class Tab:
    """What the tab shows when `tensorboard` is started on a folder."""

    def __init__(self, folder: Path) -> None:
        runs = EventMultiplexer().AddRunsFromDirectory(str(folder))
        runs.Reload()
        provider = MultiplexerDataProvider(runs, str(folder))
        context, request = Context(TBContext(data_provider=provider)), RequestContext()
        metadata = context.hparams_metadata(request, "")
        experiment = context.experiment_from_metadata(
            request, "", True, metadata, context.hparams_from_data_provider(request, "", limit=1_000)
        )
        self.varied = {info.name for info in experiment.hparam_infos if info.differs}
        wanted = api_pb2.ListSessionGroupsRequest(
            allowed_statuses=list(api_pb2.Status.values()), start_index=0, slice_size=100, include_metrics=True,
        )  # fmt: skip
        wanted.col_params.extend(api_pb2.ColParams(metric=metric.name) for metric in experiment.metric_infos)
        groups = Handler(request, context, "", wanted).run().session_groups
        self.given = {group.name: dict(group.hparams.items()) for group in groups}
        self.reached = {g.name: {m.name.tag: m.value for m in g.metric_values} for g in groups}
        self.ended = {g.name: g.sessions[0].status == api_pb2.STATUS_SUCCESS for g in groups}


def test_complete_run_shows_its_hyperparameters_and_final_metrics(configure: Configure, tmp_path: Path) -> None:
    run(configure("loss=[triplet,center]", "weights.center=0.01", "trainer.max_epochs=2"))
    tab = Tab(tmp_path)
    (name,) = tab.given
    assert name == f"{tmp_path.parent.name}/{tmp_path.name}"
    assert tab.ended[name]
    given, reached = tab.given[name], tab.reached[name]
    assert given["terms"].string_value == "triplet+center"
    assert given["optimizer"].string_value == "Adam"
    for key, value in {"optimizer.lr": 1e-3, "loss.triplet.margin": 0.2, "weights.center": 0.01,
                       "data.val_fraction": 0.1, "seed": 1, "epochs": 2}.items():  # fmt: skip
        assert given[key].number_value == value
    report = json.loads((tmp_path / "metrics.json").read_text())
    for tag in ("test/precision_at_1", "test/mean_average_precision"):
        assert reached[f"final/{tag}"] == pytest.approx(report[tag])
    curves = read(tmp_path / "val")
    for tag in ("precision_at_1", "loss/total"):
        assert reached[tag] == pytest.approx(curves[tag][-1][1])
    assert reached["final/val/precision_at_1"] == pytest.approx(max(value for _, value in curves["precision_at_1"]))
    assert len([tag for tag in reached if tag.startswith("final/")]) == 3
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"train", "val", "test", "csv", "checkpoints"}


def test_curves_keep_points_after_the_best_checkpoint(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worse = iter([torch.tensor(score) for score in (0.9, 0.8, 0.7)])
    monkeypatch.setattr(RetrievalMetrics, "compute", lambda metric: {"precision_at_1": next(worse)})
    run(configure("trainer.max_epochs=2", "trainer.num_sanity_val_steps=0", "callbacks=[default,embeddings]"))
    for stage in ("train", "val"):
        assert read(tmp_path / stage)["loss/total"][-1][0] == 2 * 1040
    validated = read(tmp_path / "val")
    assert [value for _, value in validated["precision_at_1"]] == pytest.approx([0.9, 0.8])
    assert validated["final/test/precision_at_1"] == [(2081, pytest.approx(0.7))]


def test_killed_run_is_shown_as_not_ended(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Learner.training_step

    def dying(learner: Learner, batch: Any, batch_idx: int) -> Any:
        if learner.current_epoch == 1:
            raise KeyboardInterrupt
        return original(learner, batch, batch_idx)

    monkeypatch.setattr(Learner, "training_step", dying)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        run(configure("trainer.max_epochs=2"))
    tab = Tab(tmp_path)
    (name,) = tab.given
    assert not tab.ended[name]
    assert tab.given[name]["seed"].number_value == 1
    assert "loss/triplet" in tab.reached[name]


def test_runs_of_a_sweep_share_one_tab(configure: Configure, tmp_path: Path) -> None:
    brief = ["trainer.max_epochs=1", "trainer.enable_progress_bar=false"]
    for name, loss in {"0_triplet": "triplet", "1_contrastive": "contrastive"}.items():
        configure()  # composes what registers the resolvers
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            run(compose("train", [f"run_dir={tmp_path / name}", f"loss={loss}", *brief]))
    tab = Tab(tmp_path)
    names = {f"{tmp_path.name}/{name}" for name in ("0_triplet", "1_contrastive")}
    assert tab.given.keys() == names
    assert tab.varied == {"terms"}
    assert all("final/test/precision_at_1" in reached for reached in tab.reached.values())
    assert tab.given[f"{tmp_path.name}/1_contrastive"]["loss.contrastive"].string_value == "ContrastiveLoss"
