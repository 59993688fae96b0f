"""What a critic may know beside the signals: how a run stands among the runs of its group.

A critic only lowers the variance of what an actor learns from, and is left behind after training,
so it may see what no deployed policy can (Pinto et al., 1710.06542): other runs of the same task,
to their end. Nothing of it depends on what the run itself does from a decision on.
"""

import numpy as np
import torch

from rl_lr.config import ControlConfig
from rl_lr.episodes import Array, Episode
from rl_lr.reward import relative_score
from rl_lr.signals import CLIP, SIGNALS

STANDING = (
    "rate",  # log rate above the mean of the others', over 3 nats
    "best_rate",  # log rate above the mean of those that will end best, over 3 nats
    "ahead",  # nats of score gained so far beyond the mean of the others
    "best_ahead",  # the same beyond those that will end best
    "spread",  # standard deviation of the others' final relative scores, nats
)
"""What the critic sees of every run, in this order, beside its signals."""

_BEST = 1 / 3  # share of the others that counts as ending best


def standing(episode: Episode, control: ControlConfig) -> Array:
    """How each run stands before each decision, ``[decisions, runs, len(STANDING)]`` in ±CLIP."""
    offset = control.bound * episode.observations[..., SIGNALS.index("offset")]
    rates = episode.log_base_lr + offset
    gained = np.cumsum(episode.rewards, axis=0) - episode.rewards  # before the decision
    final = torch.from_numpy(episode.final_loss), torch.from_numpy(episode.initial_loss)
    ends = relative_score(*final).numpy()
    columns = np.empty((*rates.shape, len(STANDING)), np.float32)
    for run in range(len(ends)):
        others = np.delete(np.arange(len(ends)), run)
        best = others[np.argsort(ends[others], kind="stable")][: max(1, round(_BEST * len(others)))]
        rate, ahead = rates[:, run], gained[:, run]
        columns[:, run] = np.stack(
            (
                (rate - rates[:, others].mean(axis=1)) / 3.0,
                (rate - rates[:, best].mean(axis=1)) / 3.0,
                ahead - gained[:, others].mean(axis=1),
                ahead - gained[:, best].mean(axis=1),
                np.full_like(rate, ends[others].std()),
            ),
            axis=1,
        )
    return columns.clip(-CLIP, CLIP)
