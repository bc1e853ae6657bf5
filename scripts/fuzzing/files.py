"""Files that a program reads and somebody may have damaged: event files, checkpoints, tables and records of runs."""

import io
import math
import sys
from functools import cache
from pathlib import Path

import torch

from fuzzing import damage
from fuzzing.chance import Chance
from fuzzing.endings import FailureError, ending
from lossframe.data import CsvFile
from lossframe.report.runs import read_run
from lossframe.training.loaded_run import load_run
from lossframe.training.run_folder import recorded, resume


@cache
def event_file() -> bytes:
    """Return an event file of a curve that is 1, 2, ..., 6, and of a histogram."""
    import tempfile

    from torch.utils.tensorboard import SummaryWriter

    with tempfile.TemporaryDirectory() as name, SummaryWriter(name) as writer:
        for step in range(1, 7):
            writer.add_scalar("loss/a", float(step), step)
        writer.add_histogram("loss/h", torch.arange(9.0), 1)
        writer.flush()
        (file,) = Path(name).iterdir()
        return file.read_bytes()


def of_events(chance: Chance, folder: Path) -> str:
    """Read a run whose event file is damaged: its curve is the first part of the right one, and a note says so."""
    content = damage.of_bytes(event_file(), chance)
    file = folder / "val" / "events.out.tfevents.1"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)

    def read() -> None:
        found = read_run(folder, "run")
        curve = found.curve("val", "loss/a")
        values = [] if curve is None else curve.values.tolist()
        if values != [1.0, 2.0, 3.0, 4.0, 5.0, 6.0][: len(values)]:
            raise FailureError(f"values {values}")
        if content != event_file() and not found.notes and not event_file().startswith(content):
            raise FailureError("no note on a damaged file")

    return ending(read)


def of_tables(chance: Chance, folder: Path) -> str:
    """Load a CSV file with odd cells, rows, quotes, encodings and separators: its numbers are finite."""
    separator = chance.choose(",", ";", "\t", "|")
    cells = ["1", "2.5", "-3", "", "a", "true", "nan", "inf", "1e400", "é", '"x', "'", "9" * 40, "0x1", "2024-01-01"]
    rows = [["a", "b", "price"]]
    rows += [[str(chance.random.randrange(9)), f"{chance.random.random()}", f"{k % 5}.5"] for k in range(20)]
    for _ in range(chance.choose(0, 1, 3)):
        row = chance.choose(*rows)
        if row:
            row[chance.random.randrange(len(row))] = chance.choose(*cells)
        if chance.often(0.2):
            row.append("extra")
    content = "\n".join(separator.join(row) for row in rows).encode(chance.choose("utf-8", "utf-8", "latin1", "utf-16"))
    if chance.often(0.4):
        content = damage.of_bytes(content, chance)
    file = folder / "table.csv"
    file.write_bytes(content)

    def load() -> None:
        data = CsvFile(file, chance.choose("price", "price", "a"), batch_size=4, val_fraction=0.2, test_fraction=0.2)
        data.setup()
        for name, entry in data.frame.items():
            if entry.is_floating_point() and not entry.isfinite().all():
                raise FailureError(f"{name} is not finite: {content!r}")

    return ending(load)


@cache
def trained() -> dict[str, bytes]:
    """Train a small run, and return its files: path in its folder -> content."""
    import tempfile

    from lossframe.training.cli import main

    options = [
        "loss=triplet", "model.embedding_size=4", "model.width=2", "trainer.max_epochs=1", "logger=csv",
        "trainer.enable_progress_bar=false", "hydra/job_logging=disabled", "trainer.limit_train_batches=2",
    ]  # fmt: skip
    argv, printed = sys.argv, sys.stdout
    with tempfile.TemporaryDirectory() as name:
        try:
            sys.argv, sys.stdout = ["train.py"], io.StringIO()
            main([*options, f"run_dir={name}/run"])
        finally:
            sys.argv, sys.stdout = argv, printed
        run = Path(name) / "run"
        return {str(file.relative_to(run)): file.read_bytes() for file in run.rglob("*") if file.is_file()}


def written(folder: Path) -> None:
    """Write the files of the trained run that are not there, or not as they were."""
    for name, content in trained().items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists() or file.read_bytes() != content:
            file.write_bytes(content)


def of_checkpoints(chance: Chance, folder: Path) -> str:
    """Load a run whose checkpoint is damaged, or lacks keys or has other ones."""
    written(folder)
    content = trained()["checkpoints/best.ckpt"]
    file = folder / "checkpoints" / "best.ckpt"
    if chance.often(0.6):
        file.write_bytes(damage.of_bytes(content, chance))
    else:
        torch.save(damage.of_state(torch.load(io.BytesIO(content), weights_only=True), chance)[0], file)

    def load() -> None:
        for name, weight in load_run(folder).model.state_dict().items():
            if weight.is_floating_point() and not math.isfinite(weight.double().sum()):
                raise FailureError(f"{name} is not finite")

    return ending(load)


_RECORDS = (
    "resolved.yaml",
    "overrides.yaml",
    "csv/metrics.csv",
    "metrics.json",
    ".hydra/config.yaml",
    ".hydra/overrides.yaml",
)


def of_records(chance: Chance, folder: Path) -> str:
    """Read a run whose records are damaged, for its configuration, to resume it and to report it."""
    written(folder)
    name = chance.choose(*(each for each in _RECORDS if each in trained()))
    file, content = folder / name, trained()[name]
    damaged = damage.of_bytes(content, chance) if chance.often(0.5) else None
    file.write_bytes(damaged or damage.of_text(content.decode(), chance, 5).encode())
    readers = [
        lambda: recorded.configuration(folder),
        lambda: resume.expand([f"ckpt={folder}/checkpoints/last.ckpt"]),
        lambda: read_run(folder, "run"),
    ]
    if chance.often(0.1):
        readers = [lambda: load_run(folder)]
    endings = [ending(reader) for reader in readers]
    return "refused" if "refused" in endings else "accepted"
