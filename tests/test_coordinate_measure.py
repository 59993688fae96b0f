"""The comparison with tuned optimizers: small, but real; and what its figures mean."""

import gzip
import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from rl_lr.cli import main
from rl_lr.coordinate.arms import LOST, RATES, Outcome, Problem, learned, tuned
from rl_lr.coordinate.measure import FIGURE, RESULTS, _compare, run_learned_optimizer
from rl_lr.coordinate.page import BEGIN, END, musts, put_section
from rl_lr.coordinate.tasks import digits_mlp, mnist, quadratics
from rl_lr.engine import build_objective

GRIDS = dict.fromkeys(("SGD", "momentum", "RMSprop", "Adam"), (0.001, 1.0))


def problem(steps: int = 10, seeds: int = 4) -> Problem:
    return Problem("bowls", quadratics(3), seeds, steps, "quadratics", True, GRIDS)


def outcome(arm: str, *final: float) -> Outcome:
    return Outcome(arm, "", True, final, (), (1,), (1.0,))


def test_the_command_writes_tables_figure_results_and_a_section_and_repeats_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}old\n{END}\nafter\n")
    words = ["rl-lr", "siblings", "learned-optimizer", "--quick", "true", "--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", [*words, "--page", str(page)])
    monkeypatch.chdir(tmp_path)
    main()
    said = capsys.readouterr().out
    assert said.count("must: quadratics, 6 steps, learned below") == 4
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "(out/learned-optimizer.png)" in text
    assert "| RL policy, Adam ×100 |" in text
    assert (tmp_path / "out" / FIGURE).read_bytes().startswith(b"\x89PNG")
    results = json.loads((tmp_path / "out" / RESULTS).read_text())
    assert len(results) == 3
    changed = results | {"quadratics, 6 steps": json.loads(json.dumps(results["quadratics, 6 steps"]))}
    changed["quadratics, 6 steps"]["SGD"]["outcome"]["final"] = [7.0] * 4
    (tmp_path / "out" / RESULTS).write_text(json.dumps(changed))
    main()
    assert "| SGD | 7 |" in page.read_text()


def by_hand(seed: int, rate: float) -> float:
    """Plain gradient descent on a bowl, ten steps."""
    objective = build_objective(quadratics(3), seed)
    (theta,) = objective.parameters()
    for _ in range(10):
        (gradient,) = torch.autograd.grad(objective(torch.zeros(1, 1)), [theta])
        theta.data.sub_(rate * gradient)
    return float(objective(torch.zeros(1, 1)).detach())


def test_the_tuned_rate_is_the_best_of_the_grid() -> None:
    found, rates = tuned(problem(), "SGD"), np.logspace(-3, 0, RATES)
    ends = [float(np.mean([by_hand(seed, rate) for seed in problem().own_seeds])) for rate in rates]
    best = int(np.nanargmin(ends))
    assert f"lr {rates[best]:.3g}, {best + 1} of 15" in found.setting
    assert np.mean(found.final) == pytest.approx(ends[best], rel=1e-3)
    assert found.inside


def test_a_best_rate_at_the_end_of_the_grid_is_said() -> None:
    narrow = Problem("bowls", quadratics(3), 3, 10, "quadratics", True, {"SGD": (1e-6, 1e-5)})
    assert not tuned(narrow, "SGD").inside


def test_measuring_on_the_way_changes_nothing() -> None:
    long, short = problem(steps=60), problem(steps=20)
    assert long.looks[-1] == 60
    assert learned(short).final != learned(long).final
    assert learned(long).curve[long.looks.index(20)] == pytest.approx(np.mean(learned(short).final), rel=1e-4)


def test_gaps_are_paired_and_reached_means_the_whole_interval_is_below_zero() -> None:
    ours = outcome("learned", *np.linspace(1.0, 2.0, 20))
    near = outcome("SGD", *(np.linspace(1.0, 2.0, 20) + np.linspace(0.01, 0.03, 20)))
    same = outcome("Adam", *np.linspace(2.0, 1.0, 20))
    lost = outcome("momentum", *np.linspace(1.0, 2.0, 19), LOST)
    rows = _compare([ours, near, same, lost])
    assert rows[1].gap == pytest.approx(-0.02)
    assert -0.025 < rows[1].low < -0.02 < rows[1].high < -0.015
    assert rows[1].lower == 1.0
    assert rows[2].low < 0.0 < rows[2].high
    assert rows[3].lost == 1
    said = musts([(problem(), rows)])
    assert [": reached" in one for one in said] == [True, False, True]


def test_a_page_without_a_place_for_the_section_is_refused(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("nothing")
    with pytest.raises(ValueError, match="has no section to write: put the lines"):
        put_section(tmp_path / "page.md", "")
    (tmp_path / RESULTS).write_text("{")
    with pytest.raises(ValueError, match=r"is not JSON .*: delete it"):
        run_learned_optimizer(tmp_path, quick=True)


# --- MNIST -----------------------------------------------------------------------------------


def idx(path: Path, numbers: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]", zipped: bool) -> None:
    head = bytes((0, 0, 8, numbers.ndim)) + struct.pack(f">{numbers.ndim}I", *numbers.shape)
    content = head + numbers.tobytes()
    if zipped:
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(content))
    else:
        path.write_bytes(content)


@pytest.mark.parametrize("zipped", [False, True])
def test_files_of_mnist_are_read_where_torchvision_leaves_them(tmp_path: Path, zipped: bool) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (30, 4, 4), np.uint8), rng.integers(0, 10, 30, np.uint8)
    for part, own in (("train", slice(0, 20)), ("t10k", slice(20, 30))):
        idx(raw / f"{part}-images-idx3-ubyte", images[own], zipped)
        idx(raw / f"{part}-labels-idx1-ubyte", labels[own], zipped)
    x, y, held_x, held_y = mnist(tmp_path)
    assert torch.equal(x, torch.from_numpy(images[:20]) / 255)
    assert (y.tolist(), held_y.tolist()) == (labels[:20].tolist(), labels[20:].tolist())
    assert mnist(raw)[2].equal(held_x)
    task = digits_mlp(folder=tmp_path)
    assert task.name == "mnist-sigmoid-mlp-20"
    assert task.model()(task.data()[0]).shape == (20, 10)


def test_files_that_are_not_mnist_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot be read as MNIST .*nothing is downloaded here"):
        mnist(tmp_path)
    for content in (
        b"",
        b"\0\0\x08\x03",
        b"\0\0\x08\x01" + struct.pack(">I", 9),
        b"\0\0\x08\x03" + b"\xff" * 12,
    ):
        (tmp_path / "train-images-idx3-ubyte").write_bytes(content)
        with pytest.raises(ValueError, match="cannot be read as MNIST"):
            mnist(tmp_path)
