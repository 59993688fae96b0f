"""The run that docs/how-it-decides.md explains, decision by decision: ``make trace`` makes it again.

The demo's character transformer, from a rate 100 times too low, under the shipped policy; beside it the
base schedule alone. Writes the section of that page between the markers, and ``trace.png``.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from rl_lr import Policy, RLScheduler
from rl_lr.demo.fits import Workload, workloads
from rl_lr.plot import Trace, draw
from rl_lr.signals import NUM_SIGNALS, SIGNALS

PAGE = Path(__file__).with_name("how-it-decides.md")
BEGIN, END = "<!-- trace: written by make trace -->\n", "<!-- end of trace -->"
FACTOR, STEPS = 0.01, 1000
PLACE = 4  # the first signals tell where in the run a decision stands, and are taken together
MEASURED = SIGNALS[PLACE:]
SHOWN = 3  # signals named at each decision


@dataclass(frozen=True)
class Decision:
    """What was known when the policy acted, and what came of it."""

    step: int
    """Optimizer steps made before it."""
    loss: float
    """Mean training loss since the decision before; NaN at the first."""
    rate: float
    """Learning rate of the coming step."""
    schedule: float
    """What the base schedule alone would give."""
    offset: float
    """o after the action, in nats."""
    action: float
    """a, in [-1, 1]."""
    signals: Tensor
    """``[NUM_SIGNALS]``."""
    events: int
    """Times that the guard cut the rate or put weights back, so far."""


def workload() -> Workload:
    """What is trained."""
    return workloads(STEPS)[1]


def follow(load: Workload, policy: Policy, until: int = STEPS) -> tuple[list[Decision], float]:
    """Train for ``until`` of the workload's steps; the decisions, and the loss on held-out rows afterwards."""
    torch.manual_seed(0)
    network = load.network()
    optimizer = torch.optim.AdamW(network.parameters(), FACTOR * load.lr)
    scheduler = RLScheduler(optimizer, load.steps, policy)
    decisions = [_latest(scheduler)]
    generator = torch.Generator().manual_seed(0)
    for _ in range(until):
        chosen = torch.randint(len(load.train[0]), (load.batch_size,), generator=generator)
        batch = [rows[chosen] for rows in load.train]
        loss = load.criterion(network(batch[0]), batch[-1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step(loss)
        if scheduler.controller.just_decided:
            decisions.append(_latest(scheduler))
    with torch.no_grad():
        held_out = load.criterion(network(load.held_out[0]), load.held_out[-1])
    return decisions, float(held_out)


def _latest(scheduler: RLScheduler) -> Decision:
    """The decision that was just made."""
    controller = scheduler.controller
    assert scheduler.latest_signals is not None
    return Decision(
        step=controller.step,
        loss=float(controller.last_loss),
        rate=scheduler.get_last_lr()[0],
        schedule=scheduler.base_lrs[0] * controller.now.schedule,
        offset=float(controller.offset),
        action=float(controller.last_action),
        signals=scheduler.latest_signals[0],
        events=int(controller.guard_events + controller.rewinds),
    )


def pushes(policy: Policy, signals: Tensor) -> Tensor:
    """How far the place in the run, and each signal of :data:`MEASURED` alone, pushed each action.

    What the action is, less what it would be had they been at their medians over the run; before it is
    clipped, ``[decisions, 1 + len(MEASURED)]``.
    """
    moved = torch.eye(NUM_SIGNALS, dtype=torch.bool)
    moved = torch.cat((moved[:PLACE].any(dim=0, keepdim=True), moved[PLACE:]))
    usual = signals.median(dim=0).values
    return policy.mean(signals)[:, None] - policy.mean(torch.where(moved, usual, signals[:, None]))


def rows(decisions: list[Decision], pushed: Tensor) -> list[str]:
    """A line of the table for each decision, with the signals that pushed it most."""
    lines = []
    for one, (place, *each) in zip(decisions, pushed.tolist(), strict=True):
        values = dict(zip(MEASURED, one.signals[PLACE:].tolist(), strict=True))
        named = ", ".join(f"{name} {values[name]:+.2f} ({push:+.2f})" for name, push in _strongest(each))
        loss = "" if math.isnan(one.loss) else f"{one.loss:.3f}"
        numbers = f"{one.rate:.2g} | {one.offset:+.2f} | {one.action:+.2f} | {place:+.2f}"
        lines.append(f"| {one.step} | {loss} | {numbers} | {named} |")
    return lines


def stages(policy: Policy, decisions: list[Decision], pushed: Tensor) -> list[str]:
    """A line for the warm-up and for each third of the rest: where it led, and the strongest mean pushes."""
    first, rest = policy.control.warmup_decisions, policy.control.decisions
    bounds = [0, first, first + rest // 3, first + 2 * rest // 3, first + rest]
    lines = []
    for begin, end in pairwise(bounds):
        place, *each = pushed[begin:end].mean(dim=0).tolist()
        named = ", ".join(f"{name} {push:+.2f}" for name, push in _strongest(each))
        start = decisions[begin - 1].offset if begin else 0.0
        steps = f"{decisions[begin].step} to {decisions[end - 1].step}"
        lines.append(
            f"| {steps} | {start:+.2f} to {decisions[end - 1].offset:+.2f} | {place:+.2f} | {named} |"
        )
    return lines


def _strongest(each: list[float]) -> list[tuple[str, float]]:
    return sorted(zip(MEASURED, each, strict=True), key=lambda one: -abs(one[1]))[:SHOWN]


def section(policy: Policy, decisions: list[Decision], held_out: float, alone: float) -> str:
    """What stands between the markers."""
    load, end = workload(), decisions[-1]
    pushed = pushes(policy, torch.stack([one.signals for one in decisions]))
    ups = sum(one.action > 0 for one in decisions)
    summary = (
        f"Network: {load.name} on the source of Python's standard library, {load.steps} steps of AdamW at a base "
        f"rate of {FACTOR * load.lr:g}, {FACTOR:g} times the usual one; policy `{policy.name}`, checksum "
        f"`{policy.sha256[:12]}`; torch {torch.__version__.partition('+')[0]}. In the end the offset is "
        f"{end.offset:+.2f} nats, a factor of {math.exp(end.offset):.0f}; {ups} of {len(decisions)} actions go up, "
        f"and the guard acted {end.events} times. Loss on held-out rows: {held_out:.3f}; under the base schedule "
        f"alone, from the same weights and mini-batches: {alone:.3f}."
    )
    lines = [
        summary,
        "",
        "![Loss, rate and offset of the run](trace.png)",
        "",
        "| decisions at steps | offset | push of the place | strongest pushes, on average |",
        "| --- | --- | ---: | --- |",
        *stages(policy, decisions, pushed),
        "",
        "| step | loss | rate | offset | action | push of the place | signals that pushed most: value (push) |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | --- |",
        *rows(decisions, pushed),
        "",
    ]
    return "\n".join(lines)


def picture(decisions: list[Decision], bound: float) -> Trace:
    """The same as :mod:`rl_lr.plot` draws it."""
    trace = Trace(bound=bound)
    for one in decisions:
        values = {"rate": math.log10(one.rate), "schedule": math.log10(one.schedule), "offset": one.offset}
        trace.add(one.step, values | {"loss": math.log10(one.loss), "events": float(one.events)})
    return trace


def main() -> None:
    """Run both fits and write page and picture."""
    torch.set_num_threads(1)
    policy = Policy.load()
    keep = Policy.keep(policy.control)
    (decisions, held_out), (base, alone) = follow(workload(), policy), follow(workload(), keep)
    figure = draw(*(picture(run, policy.control.bound) for run in (decisions, base)))
    figure.savefig(PAGE.with_name("trace.png"), dpi=110)
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    PAGE.write_text(
        before + BEGIN + section(policy, decisions, held_out, alone) + END + rest.split(END)[1],
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
