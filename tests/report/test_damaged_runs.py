"""The report of damaged and odd files shows what can be read, and names what cannot."""

import html
from pathlib import Path

import pytest
from torch.utils.tensorboard import SummaryWriter

from lossframe.__main__ import main
from lossframe.report.runs import read_run
from lossframe.report.writing import write


def points(folder: Path) -> tuple[Path, list[int]]:
    """Log 1 to 6 at steps 1,000 to 6,000; return the event file, and where in it each point ends."""
    with SummaryWriter(str(folder)) as writer:
        (file,) = folder.iterdir()
        ends = []
        for point in range(1, 7):
            writer.add_scalar("loss/a", float(point), 1000 * point)
            writer.flush()
            ends.append(file.stat().st_size)
    return file, ends


def reported(run: Path, capsys: pytest.CaptureFixture[str]) -> tuple[str, list[float], str]:
    """Return the report's page, the validation curve that it is drawn from, and what is on stderr."""
    assert main(["report", str(run)]) == 0
    curve = read_run(run, run.name).curve("val", "loss/a")
    return (run / "report.html").read_text(), curve.values.tolist() if curve else [], capsys.readouterr().err


def test_flipped_byte_is_reported_with_file_and_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, ends = points(tmp_path / "val")
    content = bytearray(file.read_bytes())
    content[ends[2] + 20] ^= 1
    file.write_bytes(content)
    page, values, warned = reported(tmp_path, capsys)
    said = f"{file.name} is damaged at byte {ends[2]} of {ends[5]}, after points up to step 3,000: a wrong checksum."
    assert f'<p class="note warning">val/{said}' in page
    assert warned.startswith(f"warning: {file.parent}/{said}")
    assert values == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"garbage " * 9, "could not be read at all: a wrong checksum"),
        (b"garbage", "could not be read at all: ends inside a record"),
    ],
)
def test_event_file_without_events_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, said: str
) -> None:
    file, _ = points(tmp_path / "val")
    file.write_bytes(content)
    points(tmp_path / "train")
    page, values, warned = reported(tmp_path, capsys)
    assert f'<p class="note warning">val/{file.name} {said}' in page
    assert warned.startswith(f"warning: {file} {said}")
    assert values == []


@pytest.mark.parametrize("left", [3, 9, 30])
def test_last_record_that_is_being_written_is_no_damage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], left: int
) -> None:
    file, ends = points(tmp_path / "val")
    file.write_bytes(file.read_bytes()[: ends[3] + left])
    page, values, warned = reported(tmp_path, capsys)
    said = f"val/{file.name} ends inside a record, after points up to step 4,000. That is usual while a run is writing"
    assert f'<p class="note">{said}' in page
    assert warned == ""
    assert values == [1.0, 2.0, 3.0, 4.0]


def test_comparison_names_the_damaged_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("live", "damaged"):
        file, _ = points(tmp_path / name / "val")
        file.write_bytes(file.read_bytes()[:-1] + b"\0" * (name == "damaged"))
    assert main(["report", str(tmp_path)]) == 0
    page = (tmp_path / "report.html").read_text()
    assert "Not all of damaged could be read" in page
    assert "Not all of live could be read" not in page
    assert capsys.readouterr().err.count("warning: ") == 1


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("metrics.json", b'{"test/auroc": 0.8', "JSONDecodeError: Expecting"),
        ("metrics.json", b"[1, 2]", "ValueError: wanted a mapping, found list"),
        (".hydra/overrides.yaml", b"- [a\n", "ParserError: while parsing a flow sequence"),
        (".hydra/overrides.yaml", b"- \xff\n", "UnicodeDecodeError: "),
        (".hydra/overrides.yaml", b"loss", "ValueError: wanted a list, found str"),
        ("resolved.yaml", b"a: [b\n", "ParserError: while parsing a flow sequence"),
        ("resolved.yaml", b"a: \xff\n", "UnicodeDecodeError: "),
        ("resolved.yaml", b"? {a: b}\n: c\n", "ConstructorError: while constructing a mapping"),
        ("resolved.yaml", b"a: !!timestamp x\n", "AttributeError: "),
        ("resolved.yaml", b"", "ValueError: wanted a mapping, found nothing"),
        ("hard/val_a.csv", b"id,value\n1,2\n1,2,5\n", "ValueError: row 2 has more or fewer cells than the head"),
        ("hard/val_a.csv", b"id,value\n1\n", "ValueError: row 1 has more or fewer cells than the head"),
        ("hard/val_a.csv", b"id,value\n1,2x\n", "ValueError: could not convert"),
        ("hard/val_a.csv", b"id,value\n\xff,2\n", "UnicodeDecodeError: "),
        ("hard/val_a.csv", b"", "ValueError: wanted a head and rows, found nothing"),
    ],
)
def test_unreadable_file_next_to_the_curves_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes, said: str
) -> None:
    points(tmp_path / "val")
    for folder in (".hydra", "hard"):
        (tmp_path / folder).mkdir()
    (tmp_path / ".hydra" / "config.yaml").write_text("seed: 17\n")
    (tmp_path / name).write_bytes(content)
    page, values, warned = reported(tmp_path, capsys)
    assert f'<p class="note warning">{name} could not be read, and is left out: {said}' in html.unescape(page)
    assert warned.startswith(f"warning: {tmp_path / name} could not be read, and is left out: {said}")
    assert warned.count("\n") == 1
    assert "<dd>17</dd>" in page
    assert values == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]


def test_configuration_of_odd_keys_and_values_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    points(tmp_path / "val")
    (tmp_path / "resolved.yaml").write_text("run_dir: 5\nloss: {1: {_target_: 2, margin: x}}\n")
    page, _, warned = reported(tmp_path, capsys)
    assert "1.0 * 1: 2(margin=x)" in page
    assert warned == ""


def test_metric_without_a_number_is_not_shown(tmp_path: Path) -> None:
    points(tmp_path / "val")
    (tmp_path / "metrics.json").write_text('{"test/a": "good", "test/b": null, "test/c": 0.5, "checkpoint": null}')
    run = read_run(tmp_path, "run")
    assert [run.last("test", tag) for tag in "abc"] == [None, None, 0.5]


def test_report_called_from_python_warns_of_damage(tmp_path: Path) -> None:
    file, _ = points(tmp_path / "val")
    file.write_bytes(b"")
    with pytest.warns(UserWarning, match="is empty"):
        write([tmp_path])
