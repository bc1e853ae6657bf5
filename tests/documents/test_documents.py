"""Pages and commands that are made of docstrings, and the form of the decisions."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

import lossframe
from lossframe import data, losses, models
from lossframe.__main__ import main
from lossframe.callbacks import images
from lossframe.losses import catalogue, wrappers
from lossframe.objectives import weighting

sys.path.insert(0, str(ROOT / "scripts"))
import coming_from
import loss_table

ENTRIES = catalogue.entries()
DECISIONS = ROOT / "docs" / "decisions"
TOPICS = sorted(path for path in DECISIONS.glob("*.md") if path.name != "README.md")
CASES = json.loads((ROOT / "tests" / "golden" / "cases.json").read_text())


def test_page_of_losses_is_up_to_date() -> None:
    assert loss_table.PAGE.read_text() == loss_table.page(), "run python scripts/loss_table.py"


def test_page_of_other_libraries_is_up_to_date() -> None:
    assert coming_from.PAGE.read_text() == coming_from.page(), "run python scripts/loss_table.py"


def test_page_of_losses_lists_every_loss() -> None:
    assert {entry.loss.__name__ for entry in ENTRIES} == {*losses.__all__} - {loss.__name__ for loss in losses.WRAPPERS}
    for entry in ENTRIES:
        assert f"| `{entry.name}`<br>`{entry.loss.__name__}`" in loss_table.PAGE.read_text()


def test_reference_has_every_loss_and_every_public_name() -> None:
    pages = "".join(page.read_text() for page in (ROOT / "docs" / "api").glob("*.md"))
    shown = set(re.findall(r"^::: (\S+)$", pages, re.MULTILINE))
    assert {entry.loss.__module__ for entry in ENTRIES} <= shown
    assert {f"lossframe.{name}" for name in lossframe.__all__} <= shown
    assert {f"lossframe.losses.{name}" for name in wrappers.__all__} <= shown
    for room in (images, data, models, weighting):
        assert {f"{room.__name__}.{name}" for name in room.__all__} <= shown


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_docstring_of_a_loss_has_sentence_formula_and_source(entry: catalogue.Entry) -> None:
    assert re.fullmatch(r"[A-Z][^$|]{3,}[^\s.,:]", entry.sentence)
    assert re.search(r"\$[^$]+\$", entry.formula), "wanted a formula between dollars"
    assert "|" not in loss_table.row(entry).removeprefix("| ").removesuffix(" |").replace(" | ", "")
    assert all(link.startswith(("https://", "http://")) for _, link in entry.source)
    assert entry.source, "wanted Source: TITLE, LINK."


def stood_for() -> Iterator[tuple[str, str]]:
    """Yield every function of another library that a docstring speaks of."""
    yield from ((origin.library, origin.function) for _, origin in coming_from.origins())


def test_every_function_of_the_reference_cases_is_explained() -> None:
    assert {(case["system"], case["function"].partition(".")[0]) for case in CASES} <= set(stood_for())
    assert len(list(stood_for())) == len(set(stood_for()))


def test_command_lists_the_losses(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["losses"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [[entry.name, entry.loss.__name__] for entry in ENTRIES]


def test_command_describes_a_loss(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["losses", "triplet"]) == 0
    out = capsys.readouterr().out
    for told in (
        "BatchAllTripletLoss", "relational", "All triplets of the batch.", r"\max(0, d(a, p) - d(a, n) + m)",
        "embeddings", "loss.triplet.margin=0.2", "loss.triplet.average='nonzero'", "https://arxiv.org/abs/1703.07737",
    ):  # fmt: skip
        assert told in out
    assert main(["losses", "cross_entropy"]) == 0
    assert "target (the frame's labels)" in capsys.readouterr().out


def test_misspelt_loss_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["losses", "tripplet"]) == 2
    assert capsys.readouterr().err == "error: there is no loss 'tripplet'. Did you mean 'triplet'?\n"
    assert main(["losses", "zzz"]) == 2
    assert "'triplet'" in capsys.readouterr().err


def headings(text: str) -> list[str]:
    """Return the titles of a page's sections."""
    return re.findall(r"^## (.+)$", text, re.MULTILINE)


def test_index_of_decisions_links_every_decision_once() -> None:
    index = (DECISIONS / "README.md").read_text()
    wanted = []
    for path in TOPICS:
        for title in headings(path.read_text()):
            anchor = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")  # as GitHub names a heading
            wanted.append((title, f"{path.name}#{anchor}"))
    assert sorted(re.findall(r"^- \[(.+)\]\((.+)\)$", index, re.MULTILINE)) == sorted(wanted)


@pytest.mark.parametrize("path", TOPICS, ids=lambda path: path.stem)
def test_every_decision_has_a_date_a_context_a_decision_and_what_was_refused(path: Path) -> None:
    _, *entries = path.read_text().split("\n## ")
    for entry in entries:
        assert re.fullmatch(
            r".+\n\n\*20\d\d-\d\d-\d\d.*\*\n\n\*\*Context\.\*\* [^*]+\*\*Decision\.\*\* [^*]+\*\*Refused\.\*\* [^*]+",
            entry,
        ), entry
