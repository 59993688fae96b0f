"""``rl-lr bench``: speed and memory, as ratios of neighbours measured in turn within one run."""

import json
import platform
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from rl_lr.bench.accelerator import scheduler_on_accelerator
from rl_lr.bench.callback import (
    callback_against_monitor,
    callback_against_none,
    callback_within,
    scheduler_memory,
)
from rl_lr.bench.engine import engine_figures
from rl_lr.bench.ratios import Ratio
from rl_lr.bench.soak import long_fit
from rl_lr.bench.workers import two_processes


def run_bench(out: Path, repetitions: int, soak: bool = False) -> list[Ratio]:
    """Measure everything, or only a fit of 100 000 steps, print the table, write JSON to ``out``."""
    if repetitions < 2:
        raise ValueError(f"repetitions is {repetitions}: a spread needs at least 2.")
    out.parent.mkdir(parents=True, exist_ok=True)
    results = long_fit() if soak else _short(repetitions)
    Console().print(_table(results))
    machine = {
        "processor": platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    out.write_text(json.dumps({"machine": machine, "ratios": [vars(ratio) for ratio in results]}, indent=2))
    return results


def _short(repetitions: int) -> list[Ratio]:
    return [
        *engine_figures(repetitions),
        *two_processes(max(2, repetitions // 4)),
        callback_against_monitor(repetitions),
        *callback_within(repetitions),
        *callback_against_none(repetitions),
        *scheduler_memory(),
        *(scheduler_on_accelerator(repetitions) if torch.cuda.is_available() else ()),
    ]


def _table(results: list[Ratio]) -> Table:
    table = Table(title="Ratios within this run (80 % of the repetitions lie between low and high)")
    for heading in ("figure", "median", "low", "high", "wanted"):
        table.add_column(heading, justify="left" if heading == "figure" else "right")
    for ratio in results:
        table.add_row(ratio.name, *map(_number, (ratio.median, ratio.low, ratio.high)), ratio.wanted)
    return table


def _number(value: float) -> str:
    """Three digits; of what is near one, where they would hide what is wanted of it, those of its distance."""
    return f"{value:.4f}" if abs(value - 1.0) < 0.1 else f"{value:.3g}"
