"""The pages: they build into a site that needs no network, their code runs, and what scripts wrote on them is real."""

import importlib.util
import re
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from fits import QUIET

import rl_lr
import rl_lr.callbacks
import rl_lr.coordinate
import rl_lr.envs
import rl_lr.tasks
import rl_lr.workers
from rl_lr.compare.controlled import Controlled
from rl_lr.signals import NUM_SIGNALS, SIGNALS

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = sorted(DOCS.glob("*.md"))
FRAGMENT = "<!-- fragment -->\n"  # above a block of Python that is not meant to run

pytestmark = [
    pytest.mark.skipif(not DOCS.is_dir(), reason="needs a checkout"),
    *(pytest.mark.filterwarnings(text) for text in QUIET),
]


# --- the site --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as ``make docs`` does it: a warning, such as a link that leads nowhere, is an error."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", str(DOCS), str(out)]
    built = subprocess.run(command, check=False, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return out


def test_pages_load_nothing_from_the_network(site: Path) -> None:
    loading = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*(?:src|href)=\"(?:https?:)?//[^\"]*")
    pages = list(site.rglob("*.html"))
    assert len(pages) > len(PAGES)
    assert [found[0] for page in pages for found in loading.finditer(page.read_text(encoding="utf-8"))] == []
    styles = "".join(one.read_text(encoding="utf-8") for one in (site / "_static").rglob("*.css"))
    assert re.findall(r"url\([\"']?(?:https?:)?//|@import", styles) == []


def test_search_finds_what_stands_on_the_pages(site: Path) -> None:
    index = (site / "searchindex.js").read_text(encoding="utf-8")
    assert '"how-it-decides"' in index
    assert "on_diverg" in index


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    reference = "".join(page.read_text(encoding="utf-8") for page in (site / "api").glob("*.html"))
    packages = (rl_lr, rl_lr.callbacks, rl_lr.coordinate, rl_lr.envs, rl_lr.tasks, rl_lr.workers)
    documented = {one.rpartition(".")[2] for one in re.findall(r'id="(rl_lr\.[\w.]+)"', reference)}
    for package in packages:
        assert set(package.__all__) - documented == set(), package.__name__


# --- their code ------------------------------------------------------------------------------


def python_blocks(page: Path) -> list[str]:
    """Python on a page, from top to bottom, without deliberate fragments."""
    text = page.read_text(encoding="utf-8")
    blocks = re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [one[1] for one in blocks if not text[: one.start()].endswith(FRAGMENT)]


@pytest.mark.parametrize("page", [one for one in PAGES if python_blocks(one)], ids=lambda page: page.stem)
def test_the_code_of_a_page_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code = "\n".join(python_blocks(page))
    (tmp_path / "page.py").write_text(code, encoding="utf-8")
    runpy.run_path("page.py")
    promised = re.findall(r"^print\(.*\)  # (.*)$", code, re.MULTILINE)
    printed = capsys.readouterr().out.splitlines()
    assert [one for one in promised if one not in printed] == []


# --- the trace -------------------------------------------------------------------------------


def script(name: str) -> ModuleType:
    """A script beside the pages."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def trace() -> ModuleType:
    """``docs/trace.py``."""
    return script("trace")


def table(trace: ModuleType) -> list[list[str]]:
    """Cells of the page's decisions."""
    section = trace.PAGE.read_text(encoding="utf-8").split(trace.BEGIN)[1].split(trace.END)[0]
    return [
        line.strip("| ").split(" | ") for line in section.splitlines() if re.match(r"\| \d+ \| [\d ]", line)
    ]


def test_the_page_shows_a_run_of_the_policy_that_ships(trace: ModuleType) -> None:
    policy = rl_lr.Policy.load()
    assert policy.sha256[:12] in trace.PAGE.read_text(encoding="utf-8"), "another policy: make trace"
    assert len(table(trace)) == policy.control.decision_count


def test_the_run_begins_again_as_the_page_shows_it(trace: ModuleType) -> None:
    again, _ = trace.follow(trace.workload(), rl_lr.Policy.load(), until=72)
    shown = table(trace)[: len(again)]
    assert [int(cells[0]) for cells in shown] == [one.step for one in again]
    assert [float(cells[3]) for cells in shown] == pytest.approx([one.offset for one in again], abs=0.1)
    assert [float(cells[4]) for cells in shown] == pytest.approx([one.action for one in again], abs=0.05)


def test_a_push_is_what_one_signal_does_to_an_action(trace: ModuleType) -> None:
    signals = torch.zeros(3, NUM_SIGNALS)
    signals[1, :2], signals[2, 6] = 1.0, 1.0
    weight = torch.arange(1.0, NUM_SIGNALS + 1)[None]
    pushed = trace.pushes(rl_lr.Policy(((weight, torch.zeros(1)),)), signals)
    assert (float(pushed[1, 0]), float(pushed[2, 3])) == (1.0 + 2.0, 7.0)
    assert pushed.count_nonzero() == 2


def test_what_the_page_says_of_the_run_is_so(trace: ModuleType) -> None:
    rows = table(trace)
    warmup, rest = rows[:12], rows[12:]

    def pushes(cells: list[list[str]], signal: str) -> list[float]:
        found = (re.search(rf"(?:^|, ){signal} \S+ \(([+-][\d.]+)\)", one[-1]) for one in cells)
        return [float(one[1]) for one in found if one]

    assert min(pushes(warmup[1:4], "relative_update") + pushes(warmup[4:8], "hypergradient")) > 0
    assert float(warmup[1][4]) > 0 > float(warmup[-1][4])
    assert min(pushes(rest[1:6], "window_hypergradient")) > 0
    assert max(pushes(rest[8:24], "relative_update")) < 0
    assert max(pushes(rest[18:], "window_momentum")) < 0
    assert max(float(cells[5]) for cells in warmup[-4:]) < 0
    assert min(float(cells[4]) for cells in rest[-6:]) > 0  # actions up, and the rate falls all the same
    assert [float(cells[2]) for cells in rest[-6:]] == sorted(
        (float(cells[2]) for cells in rest[-6:]), reverse=True
    )


# --- what each signal is worth ---------------------------------------------------------------


@pytest.fixture(scope="module")
def ablation() -> ModuleType:
    """``docs/ablation.py``."""
    return script("ablation")


def test_every_signal_that_tells_runs_apart_is_left_out_once_by_itself(ablation: ModuleType) -> None:
    alone = [names for name, names in ablation.LEFT_OUT.items() if name.startswith("`")]
    assert sorted(name for names in alone for name in names) == sorted(SIGNALS[ablation.PLACE :])


def test_a_policy_without_a_signal_does_not_hear_it(ablation: ModuleType) -> None:
    weight = torch.full((1, NUM_SIGNALS), 0.01)
    column, usual = SIGNALS.index("curvature"), torch.zeros(2, NUM_SIGNALS)
    usual[1, column] = 3.0
    without = ablation.Without(rl_lr.Policy(((weight, torch.zeros(1)),)), ("curvature",), usual)
    signals = torch.zeros(2, NUM_SIGNALS)
    signals[1, column] = 5.0
    assert without.act(signals, 0).tolist() == [0.0, 0.0]
    assert without.act(signals, 1).tolist() == pytest.approx([0.03, 0.03])
    signals[0, 0] = 2.0
    assert without.act(signals, 0).tolist() == pytest.approx([0.02, 0.0])


def test_what_flies_with_all_signals_is_the_arm_of_the_comparison(ablation: ModuleType) -> None:
    policy = rl_lr.Policy.load()
    load = replace(ablation.workloads()[0], steps=70)
    nothing = torch.zeros(policy.control.decision_count, NUM_SIGNALS)
    pilots = [ablation.Without(policy, names, nothing) for names in ((), ("relative_update",))]
    flight = ablation.fly(load, pilots)
    tracks = Controlled("rl-lr", lambda: policy, control=policy.control).run(load)
    assert flight.final[0].tolist() == pytest.approx([one.final for one in tracks], rel=1e-4)
    assert not torch.allclose(flight.final[0], flight.final[1], rtol=1e-3)
    whole, without = (ablation.cells([load], [flight], index, "x") for index in range(2))
    assert {one.regret for one in whole} == {0.0}
    assert without[0].normalised == pytest.approx(
        float((flight.final[1, 0] - flight.final[0, 0]) / (flight.initial[0] - flight.final[0, 0]))
    )
