"""A comparison as a page in Markdown."""

import os
from collections.abc import Sequence
from pathlib import Path

from rl_lr.compare.arms import REFERENCE_RUNS
from rl_lr.compare.comparison import Comparison
from rl_lr.compare.figures import Duel
from rl_lr.compare.report import Columns, by_workload, duel_columns, markdown, summary_columns
from rl_lr.compare.suites import Suite
from rl_lr.policy import Policy
from rl_lr.provenance import command, commit, machine, versions

_ABOUT: dict[Suite, str] = {
    "heldout": "networks that no policy was trained on or chosen by",
    "validation": "families that policies are chosen by",
    "train-families": "unseen instances of the families that policies train on",
    "own": "tasks of one's own; the loss of a fit is what it monitors, or its mean over the last tenth of the steps",
}

_LUCK = """\
  The last line is what remains of tuning when luck is taken out: the setting that won for one seed, from another.
"""


def results_page(
    comparison: Comparison, suite: Suite, policy: Policy, figures: list[Path], page: Path
) -> str:
    """What was compared, how, on what, at what cost, and every table and figure.

    Args:
        comparison: what came out.
        suite: where its workloads are from.
        policy: the policy of the first arm.
        figures: paths of the pictures.
        page: path of the page, from which it links to them.
    """
    pictures = "\n\n".join(
        f"![{path.stem}]({Path(os.path.relpath(path, page.parent)).as_posix()})" for path in figures
    )
    seeds = sorted({(workload.steps, workload.seeds) for workload in comparison.workloads})
    cost = [
        {"arm": name, "minutes on one core": f"{minutes:.1f}"} for name, minutes in comparison.minutes.items()
    ]
    ours = next(iter(comparison.cells.values()))
    used = ", ".join(f"{name} {number}" for name, number in versions().items())
    return f"""# Results: {suite}

{len(comparison.workloads)} workloads: {_ABOUT[suite]}. Made by `{command()}`; this page is written by that command.

- Policy: `{policy.name}`, checksum `{policy.sha256}`.
- Commit `{commit() or "unknown"}`; {used}; {machine()}.
- Every arm starts from the same initial weights and draws the same mini-batches. Seeds by horizon:
  {", ".join(f"{count} at {steps} steps" for steps, count in seeds)}.
- Reference: for each workload and seed the best of {REFERENCE_RUNS} runs, nine rates × cosine, linear, WSD.
  Its cost is those {REFERENCE_RUNS} runs; every other line is one run, unless it says "best of".
{_LUCK if comparison.carried_over else ""}- Base rates ×0.01 to ×100 around one usual rate per optimizer. Regret: nats of the floored training loss on a
  fixed sample above the reference, below zero is better than it. Normalised regret: 0 is the reference, 1 the
  initial loss. "Reached at": share of the horizon until the reference's final loss, looked at fourteen times.
- Cosine, linear and WSD come behind the exponential warm-up that ours has: they are what remains of it without a policy.
- Intervals: 95 % bootstrap over workloads, of the mean of the middle half.

## What it should reach

{markdown(_wanted(comparison))}

## All arms

{markdown([summary_columns(one) for one in comparison.summaries])}

## {policy.name} against each arm, run by run

Pairs share workload, seed and base rate; an arm that has no base rate meets every run of ours.

{markdown([duel_columns(one) for one in comparison.duels])}
{"".join(_between(name, duels) for name, duels in comparison.between.items())}
## By workload

Normalised regret in per cent, median over seeds, by base rate.

{markdown(by_workload(ours))}

{pictures}

## Cost

{markdown(cost)}
"""


def _between(name: str, duels: Sequence[Duel]) -> str:
    """One of several policies against others."""
    return f"\n## {name} against others beside it\n\n{markdown([duel_columns(one) for one in duels])}\n"


def _wanted(comparison: Comparison) -> list[Columns]:
    """The first arm's figures beside what is wanted of them."""
    ours, duels = comparison.summaries[0], {one.arm: one for one in comparison.duels}
    lines = [
        ("median regret, nats", f"{ours.median:+.3f}", "≤ 0", ours.median <= 0.0),
        (
            "runs with a regret of at most 0.01 nats",
            f"{ours.at_reference:.0%}",
            "≥ 50 %",
            ours.at_reference >= 0.5,
        ),
        ("runs within 1 % normalised regret", f"{ours.within:.0%}", "≥ 90 %", ours.within >= 0.9),
        ("runs that diverged", str(ours.lost), "0", ours.lost == 0),
        ("worst run, normalised regret", f"{ours.worst:.1%}", "≤ 5 %", ours.worst <= 0.05),
        (
            "median share of the horizon until the reference's loss",
            f"{ours.reached:.2f}",
            "≤ 1",
            ours.reached <= 1.0,
        ),
    ]
    for name in ("Prodigy", "schedule-free", "LR finder + one-cycle"):
        if name in duels:
            lower = duels[name].lower
            lines.append((f"lower than {name}", f"{lower:.0%}", "≥ 75 %", lower >= 0.75))
    for name in ("blind policy", "replayed offsets"):
        low, high = duels[name].low, duels[name].high
        lines.append((f"advantage over {name}, nats", f"{low:+.3f} to {high:+.3f}", "above 0", low > 0.0))
    return [
        {"figure": figure, "measured": measured, "wanted": wanted, "holds": "yes" if holds else "**no**"}
        for figure, measured, wanted, holds in lines
    ]
