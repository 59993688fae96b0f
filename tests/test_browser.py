"""``rl-lr board`` in a real browser: what a person sees.

Screenshots go to the test's temporary folder, or with ``--screenshots=FOLDER`` there.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from fits import QUIET, Module, trainer
from PIL import Image
from pytorch_lightning.loggers import TensorBoardLogger
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from small_training import TINY
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import rl_lr
from rl_lr.callbacks import ConvergenceBoard, RLLearningRate
from rl_lr.policy import Policy
from rl_lr.tasks.families import quadratic
from rl_lr.tasks.real import digits

pytestmark = [pytest.mark.filterwarnings(one) for one in QUIET]

# Web components keep their text and drawings to themselves, so both are gathered through every shadow root.
INSIDE = """
const inside = function*(node) {
  for (const child of node.childNodes) { yield child; yield* inside(child); }
  if (node.shadowRoot) yield* inside(node.shadowRoot);
};
const text = node => [...inside(node)].filter(one => one.nodeType == 3 && !/^(STYLE|SCRIPT)$/.test(one.parentNode.nodeName))
  .map(one => one.data.trim()).filter(Boolean).join("\\n");
"""
CHARTS = (
    INSIDE
    + """
return [...inside(document)].filter(one => /^TF-CUSTOM-SCALAR-.*-CHART-CARD$/.test(one.nodeName)).map(card => [
  text(card).split("\\n")[0],
  [...inside(card)].filter(one => one.nodeName == "path" && one.matches(".line-plot:not(.area-plot) .line") && (one.getAttribute("d") || "").length > 9).length
]);
"""
)
"""Title of every chart in the page's order, and the number of lines drawn in it."""

FIT = {
    "training loss between decisions (log10)": 2,
    "learning rate (log10): ■ set ◆ base schedule": 4,
    "signals behind the decisions": 10,
    "guard: cuts and returns to healthy weights": 2,
}
TRAINING = {
    "return of the runs: nats of score gained": 1,
    "regret, nats, by base rate: ■ ×0.01 ◆ ×1 ▲ ×100": 3,
    "exploration: standard deviation of actions": 1,
    "critic: share of variance explained": 1,
    "policy: KL divergence of an update": 1,
    "engine: optimizer steps per second": 1,
}


def programs() -> tuple[str, str]:
    """Chromium or Chrome, and its driver; without them the test is skipped, on a CI machine it fails."""
    browsers = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
    browser, driver = next(filter(None, browsers), None), shutil.which("chromedriver")
    if browser and driver:
        return browser, driver
    give_up: Callable[[str], Any] = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
    give_up(
        "There is no Chromium, or no driver of it, to open TensorBoard in: apt-get install chromium chromium-driver."
    )
    raise AssertionError


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    binary, driver = programs()
    options = ChromeOptions()
    options.binary_location = binary
    for argument in (
        "--headless=new",
        "--no-sandbox",  # refused to root otherwise
        "--disable-dev-shm-usage",  # small in containers
        "--disable-background-networking",
        "--no-proxy-server",
        "--hide-scrollbars",
    ):
        options.add_argument(argument)
    with Chrome(options, Service(driver)) as opened:
        yield opened


class Board:
    """A TensorBoard that ``rl-lr board`` started, in a browser.

    Args:
        browser: shared by the tests.
        folder: what ``rl-lr board`` is given.
        screenshots: folder for them.
    """

    def __init__(self, browser: Chrome, folder: Path, screenshots: Path) -> None:
        self.browser, self.screenshots = browser, screenshots
        # A shell that started the tests in the background would have them ignore Ctrl-C.
        code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from rl_lr.cli import main; main()"
        command = [sys.executable, "-c", code, "board", folder.name, "--port", "0"]
        self.process = subprocess.Popen(command, cwd=folder.parent, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        printed = re.search(r"TensorBoard: (\S+)", self.process.stdout.readline())
        assert printed
        self.address = printed[1]

    def open(self, page: str | None = None) -> None:
        """The page that ``rl-lr board`` opens on, or another one."""
        self.browser.get("about:blank")
        self.browser.get(self.address if page is None else f"{self.address.split('#')[0]}#{page}")

    def wait_for(self, wanted: Any, look: Callable[[], Any]) -> None:
        """Until the page shows what is wanted, or a superset of it."""
        deadline = time.monotonic() + 60
        while (seen := look()) != wanted:
            if isinstance(wanted, set) and wanted <= seen:
                return
            assert time.monotonic() < deadline, f"TensorBoard shows {seen}, not {wanted}"
            time.sleep(0.2)

    def charts(self) -> dict[str, int]:
        return dict(self.browser.execute_script(CHARTS))

    def words(self) -> set[str]:
        """All of the page's text, element by element."""
        return set(self.browser.execute_script(INSIDE + "return text(document);").split("\n"))

    def pictures(self) -> int:
        """Pictures that have arrived."""
        script = (
            INSIDE
            + 'return [...inside(document)].filter(one => one.nodeName == "IMG" && one.naturalWidth > 99).length;'
        )
        return int(self.browser.execute_script(script))

    def screenshot(self, name: str, width: int, height: int) -> None:
        """Of a window of so many pixels, once the page has stood still, in few colours to be small."""
        self.browser.set_window_size(width, height)
        self.screenshots.mkdir(parents=True, exist_ok=True)
        before, now = b"", self.browser.get_screenshot_as_png()
        while now != before:
            time.sleep(1.0)
            before, now = now, self.browser.get_screenshot_as_png()
        Image.open(BytesIO(now)).convert("RGB").quantize(64).save(
            self.screenshots / f"{name}.png", optimize=True
        )

    def end(self) -> int:
        """Ctrl-C; the exit code."""
        self.process.send_signal(signal.SIGINT)
        with self.process:
            return self.process.wait(30)


@pytest.fixture
def show(
    browser: Chrome, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[[Path], Board]]:
    boards: list[Board] = []

    def start(folder: Path) -> Board:
        boards.append(Board(browser, folder, request.config.getoption("--screenshots") or tmp_path))
        return boards[-1]

    yield start
    for board in boards:
        with board.process:
            board.process.kill()


class Digits(Module):
    """A small network on handwritten digits."""

    def __init__(self) -> None:
        super().__init__(lr=1e-5)
        self.network = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))  # type: ignore[assignment]

    def loss(self, batch: list[Tensor]) -> Tensor:
        return nn.functional.cross_entropy(self.network(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), self.lr)


def fit(logs: Path, name: str, policy: Policy, baseline: Path | None = None) -> None:
    images, labels, _, _ = digits()
    data = DataLoader(TensorDataset(images, labels), batch_size=64)
    logger = TensorBoardLogger(logs, name="", version=name)
    callbacks = (RLLearningRate(policy), ConvergenceBoard(baseline=baseline))
    trainer(*callbacks, logger=logger, max_epochs=20).fit(Digits(), data)


def test_a_fit_beside_its_base_schedule_is_drawn_on_every_page(
    show: Callable[[Path], Board], tmp_path: Path
) -> None:
    logs = tmp_path / "logs"
    fit(logs, "base-schedule", Policy.keep())
    fit(logs, "rl-lr", Policy.load("default"), baseline=logs / "base-schedule")
    board = show(logs)
    board.open()
    board.wait_for(FIT, board.charts)
    assert list(board.charts()) == list(FIT)  # and in this order
    board.screenshot("fit", 1120, 1060)
    board.open("images")
    board.wait_for(2, board.pictures)
    board.screenshot("fit-images", 1120, 900)
    board.open("hparams")
    board.wait_for({"base_lr", "convergence/regret", "rl-lr"}, board.words)
    board.screenshot("fit-hparams", 1560, 500)
    board.open("text")
    board.wait_for({Policy.load("default").sha256}, board.words)
    board.screenshot("fit-text", 1120, 600)
    assert board.end() == 0


def test_a_training_is_drawn_by_what_comes_of_it_and_how_it_learns(
    show: Callable[[Path], Board], tmp_path: Path
) -> None:
    rl_lr.train(
        tmp_path / "mine",
        [quadratic],
        replace(TINY, iterations=8, group_size=12, validate_every=2, validation_groups=2),
    )
    board = show(tmp_path / "mine")
    board.open()
    board.wait_for(TRAINING, board.charts)
    assert list(board.charts()) == list(TRAINING)
    board.screenshot("training", 1120, 1360)
    board.open("images")
    board.wait_for(1, board.pictures)
    board.screenshot("training-images", 1120, 800)
    assert board.end() == 0


def test_logs_without_charts_open_on_tensorboards_first_page(
    show: Callable[[Path], Board], tmp_path: Path
) -> None:
    logger = TensorBoardLogger(tmp_path, name="", version="plain")
    logger.log_metrics({"some/loss": 1.0}, 0)
    logger.finalize("success")
    board = show(tmp_path)
    assert "#" not in board.address
    board.open()
    board.wait_for({"plain", "/loss"}, board.words)
    assert board.end() == 0


def test_a_missing_browser_skips_with_the_remedy_and_fails_on_a_ci_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="apt-get install chromium chromium-driver"):
        programs()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="apt-get install chromium chromium-driver"):
        programs()
