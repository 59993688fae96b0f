"""The demo, end to end on real data, with everything shortened."""

import json
import math
from pathlib import Path

import pytest
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rl_lr.demo import FACTORS, run_demo
from rl_lr.demo.fits import Fitted
from rl_lr.demo.report import normalised_regret, result_table
from rl_lr.policy import Policy


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_demo_trains_fits_prints_and_draws(tmp_path: Path) -> None:
    console = Console(record=True, width=140)
    fits = run_demo(tmp_path, minutes=0.01, steps=60, console=console)
    assert len(fits) == 2 * len(FACTORS) * 4
    assert all(math.isfinite(one.final) for one in fits)
    assert len({one.initial for one in fits}) == 2  # all arms of a network start from the same weights
    assert all(len(one.losses) == len(one.rates) == 60 for one in fits)
    text = console.export_text()
    assert text.rstrip().endswith(f"TensorBoard: rl-lr board {tmp_path}")
    assert "shipped policy" in text
    assert "policy just trained" in text
    assert (tmp_path / "demo.png").read_bytes().startswith(b"\x89PNG")
    assert len(json.loads((tmp_path / "results.json").read_text())) == len(fits)
    assert Policy.load(tmp_path / "policy").provenance["iterations"] >= 1
    runs = [path.parent for path in (tmp_path / "tensorboard").rglob("events.out.*")]
    assert len(runs) == len(fits)
    shipped = next(run for run in runs if run.name == "shipped-policy")
    tags = EventAccumulator(str(shipped)).Reload().Tags()["scalars"]
    assert {"loss/train", "loss/held_out", "rl_lr/lr/group0", "rl_lr/offset"} <= set(tags)


def test_regret_is_zero_at_the_best_arm_and_one_at_the_start() -> None:
    fits = _fits()
    assert [normalised_regret(one, fits) for one in fits] == [0.0, 0.25, 1.0]
    console = Console(record=True, width=120)
    console.print(result_table(fits))
    assert "0.500 (0.0 %)" in console.export_text()


def _fits() -> list[Fitted]:
    finals = (0.5, 1.0, 2.5)
    return [
        Fitted("net", f"arm {i}", 1.0, initial=2.5, final=x, losses=[2.5, x], rates=[1.0])
        for i, x in enumerate(finals)
    ]
