"""What TensorBoard would show of a log folder."""

from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2


def logs(folder: Path) -> EventAccumulator:
    """All that is in it."""
    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0}).Reload()


def layout_of(events: EventAccumulator) -> dict[str, dict[str, list[str]]]:
    """Its page of custom scalars: patterns or names of tags by the titles of charts, by those of categories."""
    stored = layout_pb2.Layout()
    stored.ParseFromString(events.Tensors("custom_scalars__config__")[-1].tensor_proto.string_val[0])
    return {
        one.title: {
            chart.title: [
                *chart.multiline.tag,
                *(tag for band in chart.margin.series for tag in (band.value, band.lower, band.upper)),
            ]
            for chart in one.chart
        }
        for one in stored.category
    }
