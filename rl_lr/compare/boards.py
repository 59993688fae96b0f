"""Curves of a comparison for TensorBoard: one run of it for each arm and base rate."""

from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from rl_lr.compare.comparison import Comparison
from rl_lr.compare.runs import Track


def write_boards(comparison: Comparison, folder: Path) -> None:
    """Loss on the fixed sample and learning rate of the runs of the first seed, and of the reference.

    Tags are ``loss/<workload>`` and ``learning_rate/<workload>``, so that all arms share a chart.
    """
    _write(comparison, [best[0].track for best in comparison.references], folder / "reference")
    for name, row in comparison.rows.items():
        first_seed = [[one for one in tracks if one.seed == 0] for tracks in row]
        for starts in zip(*first_seed, strict=True):  # the same base rate on every workload
            factor = f" x{starts[0].factor:g}" if len(first_seed[0]) > 1 else ""
            _write(comparison, list(starts), folder / f"{name}{factor}".replace("/", "-"))


def _write(comparison: Comparison, tracks: list[Track], folder: Path) -> None:
    """One run on each workload."""
    with SummaryWriter(str(folder), purge_step=0) as writer:  # curves of an earlier time are hidden
        for workload, one in zip(comparison.workloads, tracks, strict=True):
            writer.add_scalar(f"loss/{workload.name}", one.initial, 0)
            for step, loss, rate in zip(one.steps, one.losses, one.rates, strict=True):
                writer.add_scalar(f"loss/{workload.name}", loss, step)
                writer.add_scalar(f"learning_rate/{workload.name}", rate, step)
