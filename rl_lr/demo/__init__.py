"""``rl-lr demo``: train a small policy, then compare it and the shipped one on real networks."""

import json
import shutil
import time
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from rl_lr.config import DrawConfig, PPOConfig, TrainConfig
from rl_lr.demo.fits import Arm, Fitted, Workload, fit, workloads
from rl_lr.demo.report import draw_figure, result_table
from rl_lr.policy import Policy
from rl_lr.progress import training_progress
from rl_lr.resume import STATE_FILE
from rl_lr.tasks import families
from rl_lr.training import train

FACTORS = (0.01, 1.0, 100.0)
"""What the usual rate of each network is multiplied by."""

CHEAP = (families.mlp_classification, families.mlp_regression, families.autoencoder, families.quadratic)
"""Families whose runs take a fraction of a second, so that two minutes hold many iterations."""


def run_demo(
    out: Path, minutes: float = 2.0, steps: int = 1000, console: Console | None = None
) -> list[Fitted]:
    """Train a policy for about ``minutes``, fit two networks under four arms, and show it all.

    Writes into ``out``: ``policy/`` (the policy just trained), ``tensorboard/``, ``results.json``
    and ``demo.png``. Ends by printing the line that opens TensorBoard on it.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}: give the optimizer steps of each fit, at least 1.")
    console = console or Console()
    if (
        out / "policy" / STATE_FILE
    ).is_file():  # of a demo before this one, whose curves would lie upon these
        for old in (out / "policy", out / "tensorboard"):
            shutil.rmtree(old, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    console.print(f"[bold]1. Train a small policy[/bold] on generated tasks, about {minutes:g} minutes")
    own = _train_for(minutes, out / "policy", console)
    arms = [
        Arm("cosine", cosine=True),
        Arm("constant"),
        Arm("shipped policy", Policy.load("default")),
        Arm("policy just trained", own),
    ]
    console.print("[bold]2. Fit two networks with Lightning[/bold], each from three base rates, four arms")
    fits = _fit_all(workloads(steps), arms, out / "tensorboard", console)
    (out / "results.json").write_text(json.dumps([asdict(one) for one in fits]))
    draw_figure(fits, out / "demo.png")
    console.print(result_table(fits))
    console.print(f"Curves: {out / 'demo.png'}")
    console.print(f"TensorBoard: rl-lr board {out}", highlight=False, soft_wrap=True)
    return fits


def _train_for(minutes: float, out: Path, console: Console) -> Policy:
    """A policy trained for about that long: iterations go on until the time is used."""
    # Many iterations teach more than long runs, and of few runs each not too fast.
    short = DrawConfig(min_steps=250, max_steps=1000)
    careful = PPOConfig(learning_rate=1e-3, minibatch=2688, clip=0.2, gae_lambda=0.95)
    config = TrainConfig(
        members=1, iterations=200, groups=8, group_size=24, validate_every=0, draw=short, ppo=careful
    )
    deadline = time.monotonic() + 60 * minutes
    with training_progress(console, seconds=60 * minutes) as progress:
        return train(out, CHEAP, config, progress, should_stop=lambda: time.monotonic() > deadline)


def _fit_all(loads: list[Workload], arms: list[Arm], log_dir: Path, console: Console) -> list[Fitted]:
    jobs = [(load, factor, arm) for load in loads for factor in FACTORS for arm in arms]
    fits = []
    with Progress(console=console) as progress:
        bar = progress.add_task("fits", total=len(jobs))
        for load, factor, arm in jobs:
            progress.update(bar, description=f"{load.name}, rate ×{factor:g}, {arm.name}")
            fits.append(fit(load, arm, factor, log_dir))
            progress.advance(bar)
    return fits
