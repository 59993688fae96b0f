"""A picture of classes and of an episode."""

from io import BytesIO
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from PIL import Image
from torch import Tensor

from rl_lr.few_shot.dataset import Classes
from rl_lr.few_shot.episodes import Episodes

Row = list[Tensor | None]

_CLASSES, _EXAMPLES, _QUERIES = 8, 8, 7
_COLOURS = 24  # enough for a picture of noise that is not large


def draw(classes: Classes, episodes: Episodes, path: Path) -> None:
    """Some classes, a row each, and the first episode: its first labelled image of each class, then queries.

    Args:
        classes: of which the first are drawn.
        episodes: of which the first is drawn.
        path: of the PNG.
    """
    figure = Figure(figsize=(8.4, 4.0), layout="constrained")
    places = figure.add_gridspec(1, 2, width_ratios=(_EXAMPLES, _QUERIES + 2), wspace=0.08)
    examples: list[Row] = [list(images[:_EXAMPLES]) for images in classes.images[:_CLASSES]]
    _grid(figure, places[0], examples, "classes, a row each")
    support = episodes.support[0].unflatten(0, (episodes.ways, -1))[:, :1]
    query = episodes.query[0].unflatten(0, (episodes.ways, -1))[:, :_QUERIES]
    rows: list[Row] = [[*known, None, *asked] for known, asked in zip(support, query, strict=True)]
    _grid(figure, places[1], rows, "an episode: what is labelled | queries, class by class")
    drawn = BytesIO()
    figure.savefig(drawn, dpi=80)
    Image.open(drawn).convert("RGB").quantize(_COLOURS).save(path, optimize=True)


def _grid(figure: Figure, place: SubplotSpec, rows: list[Row], title: str) -> None:
    """Images ``[channels, size, size]`` in rows; None leaves a gap."""
    part = figure.add_subfigure(place)
    part.suptitle(title, fontsize=9)
    columns = max(len(row) for row in rows)
    axes = part.subplots(len(rows), columns, squeeze=False)
    for line, row in zip(axes, rows, strict=True):
        for one in line:
            one.axis("off")
        for one, image in zip(line, row, strict=False):
            if image is not None:
                pixels = image.permute(1, 2, 0).numpy()
                ink = 1.0 - pixels[..., 0] if pixels.shape[-1] == 1 else pixels
                one.imshow(ink, cmap="gray", vmin=0.0, vmax=1.0)
