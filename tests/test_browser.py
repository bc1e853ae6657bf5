"""What people see: a real `tensorboard` process, looked at with a real chromium.

`LOSSFRAME_PICTURES=docs python -m pytest tests/test_browser.py` renews the README's picture.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from omegaconf import DictConfig
from playwright.sync_api import Page, sync_playwright

from train import run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
OFFLINE = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
           "--disable-sync", "--no-first-run", "--disable-quic"]  # fmt: skip
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs a chromium on the PATH (Debian: apt-get install chromium)"),
]


@pytest.fixture
def board(tmp_path: Path) -> Iterator[str]:
    """Serve `tmp_path` with tensorboard; give its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(tmp_path), "--port", str(port)]
    process = subprocess.Popen([*command, "--host", "127.0.0.1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(30)


@pytest.fixture
def page() -> Iterator[Page]:
    """Open a browser window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OFFLINE)
        yield browser.new_page(viewport={"width": 1180, "height": 1000})
        browser.close()


def wait_until_served(address: str, runs: set[str]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{address}/data/runs", timeout=5) as reply:
                if runs <= {name.strip('" []\n') for name in reply.read().decode().split(",")}:
                    return
        except OSError:
            pass
        time.sleep(0.5)
    raise AssertionError(f"tensorboard did not show the runs {runs} within a minute")


def test_the_four_curves_of_a_term_show_train_and_val_on_one_chart(
    configure: Callable[..., DictConfig], tmp_path: Path, board: str, page: Page
) -> None:
    run(configure("loss=[cross_entropy,center]", "weights.center=0.01", "trainer.max_epochs=12"))
    wait_until_served(board, {"train", "val"})
    page.goto(f"{board}/?runFilter=train|val&smoothing=0&tagFilter=loss/cross_entropy#timeseries")
    cards = page.locator("scalar-card")
    cards.first.wait_for(timeout=60_000)
    page.get_by_role("button", name="Settings").first.click()  # makes room for a second column
    for tag in ("loss/cross_entropy", "loss/cross_entropy_std", "loss/cross_entropy_min", "loss/cross_entropy_max"):
        card = cards.filter(has=page.get_by_title(tag, exact=True))
        card.wait_for(timeout=30_000)
        for curve in ("train", "val"):
            card.get_by_text(curve, exact=True).first.wait_for(timeout=30_000)
    page.wait_for_timeout(2_000)
    folder = Path(os.environ.get("LOSSFRAME_PICTURES", tmp_path))
    page.screenshot(path=folder / "tensorboard.png")
    assert (folder / "tensorboard.png").stat().st_size > 20_000
