"""Trains a run, serves it with a real `tensorboard`, and reads its tabs with a real chromium.

`LOSSFRAME_PICTURES=FOLDER python -m pytest tests/loggers/test_tensorboard_page.py` keeps the screenshots, one a tab;
`docs` renews the README's.
"""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import CHROMIUM, OFFLINE, needs_chromium
from forked import ROOT, Forked, run_script
from playwright.sync_api import Browser, Error, Page, sync_playwright

pytestmark = [pytest.mark.slow, needs_chromium]

HEIGHTS = "paths => paths.map(path => path.getBBox().height)"
# tab -> where it is, and what can be read there
TABS = {
    "scalars": ("#scalars", ["loss", "weight", "precision_at_1"]),
    "custom_scalars": ("#custom_scalars", ["cross_entropy: median, 5% to 95%", "center: mean, min to max", "share of"]),
    "histograms": ("#histograms", ["values/cross_entropy", "values/center"]),
    "images": ("#images", ["pictures/confusion", "pictures/retrieval", "hard/cross_entropy"]),
    "projector": ("#projector", ["Points: 179", "Dimension: 64", "Total variance described"]),
    "hparams": ("#hparams", ["data.val_fraction", "weights.center", "final/test/precision_at_1"]),
}


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Train with all that can be seen, and serve the run with tensorboard; give its address."""
    folder, logs = tmp_path_factory.mktemp("seen"), tmp_path_factory.mktemp("logs")
    arguments = ["loss=[cross_entropy,center]", "weights.center=0.01", "trainer.max_epochs=8",
                 "trainer.enable_progress_bar=false",
                 "callbacks=[default,embeddings,retrieval,confusion,hard_samples]"]  # fmt: skip
    arguments.append(f"hydra.run.dir={folder}")
    trained = Forked(run_script, ROOT / "train.py", arguments, folder=folder, logs=logs, environment={}).end(300)
    assert trained.returncode == 0, trained.stderr
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--port", str(port)]
    process = subprocess.Popen([*command, "--host", "127.0.0.1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until_served(f"http://127.0.0.1:{port}", {"train", "val", "test"})
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(30)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start a browser."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=OFFLINE)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Open a window."""
    window = browser.new_page(viewport={"width": 1180, "height": 1000})
    yield window
    window.close()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Where screenshots go."""
    folder = Path(os.environ.get("LOSSFRAME_PICTURES", tmp_path))
    folder.mkdir(exist_ok=True)
    return folder


def wait_until_served(address: str, runs: set[str]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{address}/data/runs", timeout=5) as reply:
                if runs == set(json.load(reply)):
                    return
        except OSError:
            pass
        time.sleep(0.5)
    raise AssertionError(f"tensorboard did not show the runs {runs}, and no others, within a minute")


def wait_for(page: Page, text: str) -> None:
    """Wait until a text can be seen in the page or in a frame of it."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if any(frame.get_by_text(text).filter(visible=True).count() for frame in page.frames):
                return
        except Error:  # a frame that has just gone
            pass
        page.wait_for_timeout(500)
    raise AssertionError(f"{text!r} cannot be read on {page.url}")


@pytest.mark.parametrize("tab", TABS)
def test_each_tab_shows_the_data_of_the_run(board: str, page: Page, pictures: Path, tab: str) -> None:
    place, texts = TABS[tab]
    page.goto(f"{board}/{place}")
    for text in texts:
        wait_for(page, text)
    page.wait_for_timeout(2_000)
    page.screenshot(path=pictures / f"tensorboard_{tab}.png")
    loaded = page.locator("tf-image-loader img").evaluate_all("images => images.map(image => image.naturalWidth)")
    assert tab != "images" or (len(loaded) >= 4 and min(loaded) > 300)
    bands = page.locator("tf-custom-scalar-margin-chart-card path.area").evaluate_all(HEIGHTS)
    assert tab != "custom_scalars" or (len(bands) >= 8 and max(bands) > 50)  # two charts of two terms, train and val


def test_each_curve_of_a_term_shows_train_and_val_on_one_chart(board: str, page: Page, pictures: Path) -> None:
    page.goto(f"{board}/?runFilter=train|val&smoothing=0&tagFilter=loss/cross_entropy(_(std|min|max))?$#timeseries")
    cards = page.locator("scalar-card")
    cards.first.wait_for(timeout=60_000)
    page.get_by_role("button", name="Settings").first.click()  # makes room for a second column
    for tag in ("loss/cross_entropy", "loss/cross_entropy_std", "loss/cross_entropy_min", "loss/cross_entropy_max"):
        card = cards.filter(has=page.get_by_title(tag, exact=True))
        card.wait_for(timeout=30_000)
        for curve in ("train", "val"):
            card.get_by_text(curve, exact=True).first.wait_for(timeout=30_000)
    page.wait_for_timeout(2_000)
    page.screenshot(path=pictures / "tensorboard.png")
    assert (pictures / "tensorboard.png").stat().st_size > 20_000
