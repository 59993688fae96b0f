"""What a policy does while it learns, as a picture: its actions, decision by decision."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from rl_lr.config import ControlConfig
from rl_lr.episodes import Array, Episode

_THIRDS = (("lowest", "#1f4e79"), ("middle", "#9a9a9a"), ("highest", "#c1272d"))
"""Of the base rates of a task, with the colour of their runs."""


def draw_actions(episodes: Sequence[Episode], control: ControlConfig) -> Figure:
    """Mean and middle half of the actions at each decision, by how high a run's base rate is for its task.

    The actions are those that were taken, exploration included, and clipped as the controller clips them.
    """
    figure = Figure(figsize=(4.5, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.axhline(0.0, color="black", lw=0.8)
    axes.axvline(control.warmup_decisions + 0.5, color="black", lw=0.8, ls=":")
    for (name, color), actions in zip(_THIRDS, actions_by_base_rate(episodes), strict=True):
        if not actions.size:  # of two runs, none is in the middle
            continue
        decisions = np.arange(1, len(actions) + 1)
        low, high = np.quantile(actions, (0.25, 0.75), axis=1)
        axes.fill_between(decisions, low, high, color=color, alpha=0.15, lw=0)
        axes.plot(decisions, actions.mean(axis=1), color=color, lw=1.6, label=name)
    axes.set(xlabel="decision (dotted: end of the warm-up)", ylabel="action: rate down (−) or up (+)")
    axes.set(ylim=(-1.05, 1.05), xlim=(1, control.decision_count))
    figure.legend(
        loc="outside upper center", ncols=3, frameon=False, title="third of the base rates of each task"
    )
    return figure


def actions_by_base_rate(episodes: Sequence[Episode]) -> list[Array]:
    """Actions ``[decisions, runs]`` of the lowest, middle and highest third of the base rates of each task."""
    actions = np.concatenate([episode.actions for episode in episodes], axis=1).clip(-1.0, 1.0)
    ranks = [episode.log_base_lr.argsort().argsort() for episode in episodes]
    thirds = np.concatenate([np.floor(3 * (rank + 0.5) / len(rank)) for rank in ranks])
    return [actions[:, thirds == third] for third in range(3)]
