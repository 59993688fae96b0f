"""What TensorBoard's pages of custom scalars and of hparams show, and the order in which it reads.

Of the charts of a category those with bands come last, and in the wrong order: have one at most.
"""

import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.plugins.custom_scalar import layout_pb2
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import custom_scalars, hparams

Layout = Mapping[str, Sequence[layout_pb2.Chart]]
"""Charts by the title of their category."""


def lines(title: str, *tags: str) -> layout_pb2.Chart:
    """Scalars as lines, which the page may smooth; only the tooltip tells which is which."""
    exact = [f"^{re.escape(tag)}$" for tag in tags]
    return layout_pb2.Chart(title=title, multiline=layout_pb2.MultilineChartContent(tag=exact))


def bands(title: str, *series: tuple[str, str, str]) -> layout_pb2.Chart:
    """Scalars (value, lower, upper), each as a line in a band, never smoothed; marked ■, ◆, ▲ in this order."""
    content = [layout_pb2.MarginChartContent.Series(value=v, lower=a, upper=b) for v, a, b in series]
    return layout_pb2.Chart(title=title, margin=layout_pb2.MarginChartContent(series=content))


def write_layout(writer: SummaryWriter, layout: Layout) -> None:
    """Write what the page shows; ``SummaryWriter.add_custom_scalars`` knows no two bands in a chart."""
    categories = [layout_pb2.Category(title=title, chart=charts) for title, charts in layout.items()]
    summary = custom_scalars({})
    summary.value[0].tensor.string_val[:] = [layout_pb2.Layout(category=categories).SerializeToString()]
    writer.file_writer.add_summary(summary)  # type: ignore[attr-defined]


def write_row(
    writer: SummaryWriter, settings: dict[str, str | float], metrics: dict[str, float | None], step: int
) -> None:
    """Write a run's row of the page of hparams.

    The page has the columns that any one of its runs declares, so a metric that is None, unlike one left out
    as ``SummaryWriter.add_hparams`` would have it, keeps the column of the other runs.
    """
    for summary in hparams(settings, dict.fromkeys(metrics, 0.0)):
        writer.file_writer.add_summary(summary)  # type: ignore[attr-defined]
    for name, value in metrics.items():
        if value is not None:
            writer.add_scalar(name, value, step)


def writer_after(folder: Path, done: int) -> SummaryWriter:
    """A writer that goes on after step ``done``; what else was logged in its folder from then on is hidden.

    TensorBoard reads the files of a folder in the order of their names. These begin with the second in which each was
    opened, and go on with numbers that are no order ("10" is before "9"): so it waits until that second is a new one.

    Args:
        folder: what is logged to; made if missing.
        done: steps that stay; with 0 nothing is hidden.
    """
    while any(folder.glob(f"events.out.tfevents.{int(time.time()):010d}.*")):
        time.sleep(0.05)
    return SummaryWriter(str(folder), purge_step=done + 1 if done else None)


def hide_after(writer: SummaryWriter, step: int) -> None:
    """Hide what an earlier fit logged after ``step``, as ``SummaryWriter(purge_step=step + 1)`` would have."""
    start = Event(session_log=SessionLog(status=SessionLog.START))
    writer.file_writer.add_event(start, step + 1)  # type: ignore[attr-defined]
