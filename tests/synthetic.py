"""A run's folder with everything that a report shows, made without training."""

import json
from pathlib import Path

import numpy as np
import yaml
from torch.utils.tensorboard import SummaryWriter

CONFIG = {
    "seed": 1,
    "run_dir": "RUN",
    "loss": {
        "triplet": {"_target_": "lossframe.losses.BatchAllTripletLoss", "margin": 0.2, "log_std": True},
        "center": {"_target_": "lossframe.losses.CenterLoss", "alpha": 0.5, "log_std": True},
    },
    "weights": {"triplet": 1.0, "center": 0.01},
    "data": {"_target_": "lossframe.data.Digits", "batch_size": 80},
    "checkpoint_monitor": {"metric": "val/precision_at_1", "mode": "max"},
}
WEIGHTS = {"triplet": 1.0, "center": 0.01}


def write_run(folder: Path, seed: int = 0, points: int = 60, config: dict | None = None) -> Path:
    """Write the event files, configuration, metrics and hard samples of two terms; return the folder."""
    random = np.random.default_rng(seed)
    for stage, number in (("train", points), ("val", 6), ("test", 1)):
        with SummaryWriter(str(folder / stage)) as writer:
            for point in range(1, number + 1):
                age = 1.0 if stage == "test" else point / number
                _write_point(writer, stage, round(6000 * age), age, random)
            _write_pictures(writer, random)
    (folder / ".hydra").mkdir()
    (folder / ".hydra" / "config.yaml").write_text(yaml.safe_dump(config or CONFIG))
    (folder / ".hydra" / "overrides.yaml").write_text("- loss=[triplet,center]\n- weights.center=0.01\n")
    (folder / "metrics.json").write_text(json.dumps({"test/auroc": 0.875, "checkpoint": "best.ckpt"}))
    (folder / "hard").mkdir()
    rows = [f"{17 * rank},{rank % 10},<b>{rank % 7}</b>,{9 - rank / 3},6" for rank in range(1, 25)]
    (folder / "hard" / "val_triplet.csv").write_text("\n".join(["id,target,prediction,value,epochs", *rows]) + "\n")
    (folder / "hard" / "val_triplet_often.csv").write_text("id,epochs\n34,6\n")
    return folder


def _write_point(writer: SummaryWriter, stage: str, step: int, age: float, random: np.random.Generator) -> None:
    means = {}
    for term, scale, shape in (("triplet", 2.0, 0.5), ("center", 40.0, 4.0)):
        values = random.gamma(shape, scale * np.exp(-4 * age) * (1.3 if stage != "train" else 1) / shape, 2000)
        means[term] = float(values.mean())
        statistics = {"": means[term], "_std": values.std(), "_min": values.min(), "_max": values.max()}
        statistics |= {f"_p{q}": np.quantile(values, q / 100) for q in (5, 50, 95, 99)}
        for suffix, value in statistics.items():
            writer.add_scalar(f"loss/{term}{suffix}", float(value), step)
        writer.add_scalar(f"loss/{term}/active", float((values > 1).mean()), step)
        writer.add_histogram(f"values/{term}", values, step)
    total = sum(WEIGHTS[term] * mean for term, mean in means.items())
    for term, mean in means.items():
        writer.add_scalar(f"weighted/{term}", WEIGHTS[term] * mean, step)
        writer.add_scalar(f"share/{term}", WEIGHTS[term] * mean / total, step)
        if stage == "train":
            writer.add_scalar(f"weight/{term}", WEIGHTS[term], step)
    writer.add_scalar("loss/total", total, step)
    if stage == "train":
        writer.add_scalar("lr", 1e-3 * 0.5 * (1 + np.cos(np.pi * age)), step)
        writer.add_scalar("samples_per_second", random.normal(5000, 300), step)
    else:
        writer.add_scalar("precision_at_1", 1 - 0.4 * np.exp(-3 * age) + 0.01 * random.random(), step)


def _write_pictures(writer: SummaryWriter, random: np.random.Generator) -> None:
    for step in (1000, 6000):
        writer.add_image("hard/triplet", random.random((3, 16, 64)), step)
        writer.add_image("pictures/confusion", random.random((3, 12, 12)), step)
        writer.add_image("pictures/retrieval", random.random((3, 60, 120)), step)
