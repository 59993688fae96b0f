"""Pictures of a network and of a cell."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from rl_lr.design.architecture import Architecture, Conv, Dense, Layer, Shape
from rl_lr.design.cells import Cell, Node

_COLOURS = {
    "image": "#e8e8e8",
    "Conv": "#c1272d",
    "Pool": "#e8a33d",
    "Dense": "#3b6ea5",
    "classes": "#4c4c4c",
}
_MEMORY = "#c1272d"
_SIGNS = {"add": "+", "multiply": "×"}


def draw_architecture(design: Architecture, inputs: Shape, classes: int) -> Figure:
    """From the image to the classes: a slab's height is its side in pixels, its thickness its channels."""
    figure = Figure(figsize=(max(4.0, 1.5 * (len(design.layers) + 2)), 2.6), layout="constrained")
    axes = figure.subplots()
    stages: list[tuple[str, str, Shape]] = [("image", f"image\n{inputs[1]}×{inputs[1]}", inputs)]
    for layer, made in zip(design.layers, design.shapes(inputs), strict=True):
        stages.append((type(layer).__name__, _caption(layer, made), made))
    stages.append(("classes", f"linear\n{classes} classes", (classes, 0)))
    left = 0.0
    for kind, caption, (channels, side) in stages:
        height = side / inputs[1] if side else min(1.0, 0.15 + 0.02 * channels)
        width = 0.1 + 0.025 * channels if side else 0.12
        axes.add_patch(
            Rectangle((left, -height / 2), width, height, color=_COLOURS[kind], ec="black", lw=0.8)
        )
        axes.text(left + width / 2, -0.58, caption, ha="center", va="top", fontsize=8)
        left += width + 0.55
    axes.set(xlim=(-0.3, left), ylim=(-0.95, 0.6))
    axes.set_axis_off()
    axes.set_title(f"{design}   ({design.parameters(inputs, classes)} parameters)", fontsize=9)
    return figure


def _caption(layer: Layer, made: Shape) -> str:
    if isinstance(layer, Dense):
        return f"dense\n{layer.width}"
    kind = (
        f"conv {layer.size}×{layer.size}"
        if isinstance(layer, Conv)
        else f"max pool\n{layer.size}×{layer.size}"
    )
    return f"{kind}\n{made[0]} maps" if isinstance(layer, Conv) else kind


def draw_cell(cell: Cell) -> Figure:
    """The tree, inputs below and the new output above; the memory comes and goes by dashed arrows."""
    figure = Figure(figsize=(1.9 * cell.leaves, 1.15 * (cell.leaves.bit_length() + 2)), layout="constrained")
    axes = figure.subplots()
    places = _places(cell)
    for index, (x, y) in enumerate(places):
        below = [places[child] for child in cell.children(index)] if index >= cell.leaves else []
        for from_ in below:
            _arrow(axes, (from_[0], from_[1] + 0.2), (x, y - 0.2))
        if index < cell.leaves:
            axes.text(x, y - 0.72, f"$W_{index}x+b_{index}$,  $U_{index}h$", ha="center", fontsize=9)
            _arrow(axes, (x, y - 0.55), (x, y - 0.2))
        _box(axes, (x, y), _label(cell.nodes[index]), "#f6d5d6" if index == cell.keep else "#dbe7f3")
    x, y = places[cell.at]
    axes.annotate(
        f"memory $c$ joins by\n{_label(cell.inject)}", (x - 0.44, y), (x - 0.5, y - 1.1), ha="center", fontsize=8,
        color=_MEMORY, arrowprops={"arrowstyle": "->", "color": _MEMORY, "ls": "--", "connectionstyle": "arc3,rad=-0.3"},
    )  # fmt: skip
    x, y = places[cell.keep]
    side, place = (
        (-0.43, "left") if x < _parent_place(cell, places) else (0.43, "right")
    )  # its arrow goes the other way
    axes.text(x + side, y + 0.24, "new $c$: before\nthe activation", fontsize=7, color=_MEMORY, ha=place)
    top = places[-1]
    _arrow(axes, (top[0], top[1] + 0.2), (top[0], top[1] + 0.6))
    axes.text(top[0], top[1] + 0.65, "new output $h$", ha="center", fontsize=9)
    axes.set(xlim=(-1.1, cell.leaves - 0.1), ylim=(-1.35, top[1] + 0.95))
    axes.set_axis_off()
    return figure


def _places(cell: Cell) -> list[tuple[float, float]]:
    """Leaves in a row, every other node between its children and above them."""
    places = [(float(leaf), 0.0) for leaf in range(cell.leaves)]
    for index in range(cell.leaves, len(cell.nodes)):
        (a, height), (b, _) = (places[child] for child in cell.children(index))
        places.append(((a + b) / 2, height + 1.0))
    return places


def _parent_place(cell: Cell, places: list[tuple[float, float]]) -> float:
    """Where, from left to right, what the kept node leads to stands; of the root itself its own place."""
    parents = (i for i in range(cell.leaves, len(cell.nodes)) if cell.keep in cell.children(i))
    return places[next(parents, cell.keep)][0]


def _label(node: Node) -> str:
    return f"{_SIGNS[node.combination]}  {node.activation}"


def _box(axes: Axes, centre: tuple[float, float], text: str, colour: str) -> None:
    x, y = centre
    axes.add_patch(
        FancyBboxPatch(
            (x - 0.4, y - 0.17), 0.8, 0.34, boxstyle="round,pad=0.03", fc=colour, ec="black", lw=0.8
        )
    )
    axes.text(x, y, text, ha="center", va="center", fontsize=9)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "->", "lw": 0.9})
