"""Curves of a training by unrolled runs, written to TensorBoard."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from rl_lr.coordinate.config import UnrollConfig


class Curves:
    """TensorBoard opens on what comes of the training, and how it learns; *Text* holds the settings.

    Args:
        config: written down before the first iteration.
        out: folder of the training; curves go to ``tensorboard/`` in it.
        done: iterations done before; what a crashed training wrote after them is hidden.
    """

    def __init__(self, config: UnrollConfig, out: Path, done: int) -> None:
        from rl_lr.charts import lines, write_layout, writer_after

        self._writer = writer_after(out / "tensorboard", done)
        if not done:
            results = lines("loss at the end over that at the start", "validation/loss", "train/end")
            learning = [
                lines("gradient of the network: mean norm", "train/gradient_norm"),
                lines("share of gradients that were not finite", "train/skipped"),
            ]
            layout = {"training: what comes of it": [results], "training: how it learns": learning}
            write_layout(self._writer, layout)
            settings = json.dumps(asdict(config), indent=2)
            self._writer.add_text("settings", f"```json\n{settings}\n```", 0)

    def log(self, group: str, figures: Mapping[str, float], iterations: int) -> None:
        """Write the figures of iteration number ``iterations``, from 1."""
        for name, value in figures.items():
            self._writer.add_scalar(f"{group}/{name}", value, iterations)
        self._writer.flush()

    def close(self) -> None:
        """Nothing more will come."""
        self._writer.close()
