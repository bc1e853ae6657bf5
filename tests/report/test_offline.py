"""The report of a real sweep, opened by a browser without a network."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from chromium import CHROMIUM, OFFLINE, needs_chromium
from curves import read
from playwright.sync_api import Browser, Page, sync_playwright

from lossframe.__main__ import main

LOSSES = ("triplet", "contrastive", "cross_entropy", "supcon")


class Opened:
    """A page opened offline, with the requests that it sent and the problems that its console named."""

    def __init__(self, browser: Browser, path: Path) -> None:
        self.asked: list[str] = []
        self.problems: list[str] = []
        self.page = browser.new_page()
        self.page.context.set_offline(True)
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.problems.append(error.message))
        self.page.on("console", lambda message: self.problems.append(message.text))
        self.page.goto(path.as_uri())


def check_comparison(page: Page, sweep: Path) -> None:
    """Compare the rows of the second table, and the charts, with the runs' own files."""
    rows = [row.locator("td") for row in page.locator("table").nth(1).locator("tbody tr").all()]
    heads = page.locator("table").nth(1).locator("th").all_inner_texts()
    for number, (name, row) in enumerate(zip(LOSSES, rows, strict=True)):
        run = sweep / f"{number}_{name}"
        tested = json.loads((run / "metrics.json").read_text())["test/precision_at_1"]
        assert row.nth(heads.index("losses")).inner_text() == name
        assert row.nth(heads.index("test precision_at_1")).inner_text() == f"{tested:.4g}"
        assert read(run / "test")["precision_at_1"][-1][1] == pytest.approx(tested)
        assert page.get_by_alt_text(f"loss/{name} over samples seen: train, val, test").is_visible()


@pytest.mark.slow
@needs_chromium
def test_report_of_a_sweep_opens_without_a_network(
    tmp_path: Path, command: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    sweep = tmp_path / "sweep"
    result = command("-m", f"loss={','.join(LOSSES)}", "trainer.max_epochs=2", "trainer.limit_train_batches=8",
                     f"hydra.sweep.dir={sweep}")  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert main(["report", str(sweep)]) == 0
    moved = Path(shutil.move(sweep / "report.html", tmp_path / "alone.html"))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OFFLINE)
        opened = Opened(browser, moved)
        wanted = ["Summary", "Comparison", *(f"Run {number}_{name}" for number, name in enumerate(LOSSES))]
        assert opened.page.locator("h2").all_inner_texts() == wanted
        assert opened.page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
        check_comparison(opened.page, sweep)
        browser.close()
    assert not opened.problems
    assert [url for url in opened.asked if not url.startswith(("file:", "data:"))] == []
