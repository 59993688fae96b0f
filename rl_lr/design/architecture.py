"""Networks for images as lists of layers: what may follow what, their size, and the module they become.

Layer types and rules are those of MetaQNN (Baker et al., 1611.02167, section 4 and table 1), sizes
smaller by the same factor as the images.
"""

import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from torch import Tensor, nn

from rl_lr.design.space import Taken

Shape = tuple[int, int]
"""(channels, side) of square images."""


@dataclass(frozen=True)
class Conv:
    """Convolution over ``size`` × ``size`` pixels, without padding, then the activation."""

    channels: int
    """Feature maps that it makes."""
    size: int
    """Side of its window, in pixels."""

    def __str__(self) -> str:
        """``conv(channels,size)``."""
        return f"conv({self.channels},{self.size})"


@dataclass(frozen=True)
class Pool:
    """Maximum over windows that lie side by side; what is left over at the edge is dropped."""

    size: int
    """Side of a window, in pixels."""

    def __str__(self) -> str:
        """``pool(size)``."""
        return f"pool({self.size})"


@dataclass(frozen=True)
class Dense:
    """Fully connected layer, then the activation."""

    width: int
    """Units."""

    def __str__(self) -> str:
        """``dense(width)``."""
        return f"dense({self.width})"


Layer = Conv | Pool | Dense
_KINDS: dict[str, tuple[Callable[..., Layer], int]] = {
    "conv": (Conv, 2),
    "pool": (Pool, 1),
    "dense": (Dense, 1),
}


def parse_layer(text: str) -> Layer:
    """The layer that a word means.

    Raises:
        ValueError: for a word that means none.
    """
    found = re.fullmatch(r"(\w+)\((\d+(?:,\d+)*)\)", text)
    kind, count = _KINDS.get(found[1], (None, 0)) if found else (None, 0)
    numbers = [int(one) for one in found[2].split(",")] if found else []
    if kind is None or len(numbers) != count or min(numbers) < 1:
        raise ValueError(
            f"There is no layer {text!r}: write conv(channels,size), pool(size) or dense(width), with whole "
            f"numbers of at least 1."
        )
    return kind(*numbers)


@dataclass(frozen=True)
class Architecture:
    """Layers from the image on; a linear layer to the classes always comes last and is not among them.

    >>> net = Architecture.parse("conv(8,3) pool(2) dense(16)")
    >>> net.shapes((1, 12))
    [(8, 10), (8, 5), (16, 0)]
    >>> net.parameters((1, 12), classes=10)
    3466
    """

    layers: tuple[Layer, ...]
    """In order."""

    @classmethod
    def parse(cls, text: str) -> "Architecture":
        """Read the string form: layers with blanks between them; "" or "linear" for none.

        Raises:
            ValueError: for an unknown layer.
        """
        return cls(tuple(parse_layer(word) for word in text.split() if word != "linear"))

    def __str__(self) -> str:
        """Such as ``conv(16,3) pool(2) dense(32)``; without layers ``linear``."""
        return " ".join(str(layer) for layer in self.layers) or "linear"

    def shapes(self, inputs: Shape) -> list[Shape]:
        """What each layer makes of images of this shape: (channels, side), or (units, 0) once there is no image.

        Raises:
            ValueError: if a layer is larger than what those before leave of the image, or comes after
                a dense one and needs an image.
        """
        made, (channels, side) = [], inputs
        for layer in self.layers:
            if isinstance(layer, Dense):
                channels, side = layer.width, 0
            elif side == 0:
                raise ValueError(f"{layer} comes after a dense layer, which leaves no image: put it before.")
            elif layer.size > side:
                raise ValueError(
                    f"{layer} in {str(self)!r} is larger than the {side}×{side} pixels that are left of the image: "
                    f"take at most {side}, or fewer layers before it."
                )
            elif isinstance(layer, Conv):
                channels, side = layer.channels, side - layer.size + 1
            else:
                side //= layer.size
            made.append((channels, side))
        return made

    def parameters(self, inputs: Shape, classes: int) -> int:
        """Weights and biases, with those of the last, linear layer."""
        count, shape = 0, inputs
        for layer, made in zip(self.layers, self.shapes(inputs), strict=True):
            if isinstance(layer, Conv):
                count += layer.channels * (shape[0] * layer.size**2 + 1)
            elif isinstance(layer, Dense):
                count += layer.width * (units(shape) + 1)
            shape = made
        return count + classes * (units(shape) + 1)

    def build(
        self, inputs: Shape, classes: int, activation: Callable[[], nn.Module] = nn.ReLU
    ) -> nn.Sequential:
        """A freshly initialised network, images ``[batch, channels, side, side]`` → logits ``[batch, classes]``."""
        modules: list[nn.Module] = []
        shape = inputs
        for layer, made in zip(self.layers, self.shapes(inputs), strict=True):
            if isinstance(layer, Conv):
                modules += [nn.Conv2d(shape[0], layer.channels, layer.size), activation()]
            elif isinstance(layer, Pool):
                modules.append(_Tiles(layer.size))
            else:
                flat = [nn.Flatten()] if shape[1] else []
                modules += [*flat, nn.Linear(units(shape), layer.width), activation()]
            shape = made
        flat = [nn.Flatten()] if shape[1] else []
        return nn.Sequential(*modules, *flat, nn.Linear(units(shape), classes))


def units(shape: Shape) -> int:
    """Numbers in an image of this shape, or units of a dense layer."""
    channels, side = shape
    return channels * max(1, side) ** 2


class _Tiles(nn.Module):
    """Maximum over whole tiles: cut to a multiple of their size, so that it stacks well (:mod:`rl_lr.layers`)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, channels, side, side]`` → ``[batch, channels, side // size, side // size]``."""
        side = x.shape[-1] // self.size * self.size
        return nn.functional.max_pool2d(x[..., :side, :side], self.size)


@dataclass(frozen=True)
class LayerSpace:
    """Architectures for images of one shape: each action adds a layer, or ends the network.

    A layer is legal if it fits what is left of the image. As in MetaQNN, nothing that needs an image
    comes after a dense layer, no pooling after pooling, and at most two dense layers follow each other.
    """

    inputs: Shape = (1, 12)
    """(channels, side) of the images."""
    channels: tuple[int, ...] = (4, 8, 16)
    """Feature maps that a convolution may have."""
    sizes: tuple[int, ...] = (3, 5)
    """Sides of its window, in pixels."""
    pools: tuple[int, ...] = (2, 3)
    """Sides of a pooling window, in pixels."""
    widths: tuple[int, ...] = (16, 32)
    """Units of a dense layer."""
    depth: int = 5
    """Layers at most."""

    def __post_init__(self) -> None:
        """Refuse a space without networks."""
        numbers = (*self.inputs, *self.channels, *self.sizes, *self.pools, *self.widths, self.depth)
        if min(numbers) < 1:
            raise ValueError(
                f"Sizes in a space of layers are whole numbers of at least 1, got {min(numbers)}."
            )

    @property
    def layers(self) -> tuple[Layer, ...]:
        """All that a network may be made of, in the order of the actions."""
        convolutions = [Conv(c, s) for c in self.channels for s in self.sizes]
        return (*convolutions, *(Pool(s) for s in self.pools), *(Dense(w) for w in self.widths))

    @property
    def words(self) -> tuple[str, ...]:
        """The layers, and ``end``."""
        return (*(str(layer) for layer in self.layers), "end")

    @property
    def longest(self) -> int:
        """The deepest network and its end."""
        return self.depth + 1

    def legal(self, taken: Taken) -> list[int]:
        """Layers that fit, and always the end, until it came."""
        end = len(self.layers)
        if taken and taken[-1] == end:
            return []
        if len(taken) == self.depth:
            return [end]
        before = [self.layers[one] for one in taken]
        side = self._side(before)
        return [index for index, layer in enumerate(self.layers) if _may_follow(layer, before, side)] + [end]

    def state(self, taken: Taken) -> Hashable:
        """Depth, kind of the last layer, pixels left, and dense layers in a row.

        MetaQNN's state also tells the sizes of the last layer; with a hundred children a table learns too
        little about each of so many states.
        """
        before = [self.layers[one] for one in taken if one < len(self.layers)]
        kind = type(before[-1]).__name__ if before else ""
        return len(before), kind, self._side(before), _dense_at_the_end(before)

    def design(self, taken: Taken) -> Architecture:
        """The layers before the end."""
        return Architecture(tuple(self.layers[one] for one in taken[:-1]))

    def actions(self, design: Architecture) -> Taken:
        """The sequence that describes an architecture of this space.

        Raises:
            ValueError: for a layer that the space has not, or that does not fit.
        """
        design.shapes(self.inputs)
        missing = [str(layer) for layer in design.layers if layer not in self.layers]
        if missing:
            raise ValueError(f"{missing[0]} is not in this space: it has {', '.join(self.words)}.")
        return (*(self.layers.index(layer) for layer in design.layers), len(self.layers))

    def _side(self, before: list[Layer]) -> int:
        shapes = Architecture(tuple(before)).shapes(self.inputs)
        return shapes[-1][1] if shapes else self.inputs[1]


def _dense_at_the_end(before: list[Layer]) -> int:
    count = 0
    while count < len(before) and isinstance(before[-1 - count], Dense):
        count += 1
    return count


def _may_follow(layer: Layer, before: list[Layer], side: int) -> bool:
    if isinstance(layer, Dense):
        return _dense_at_the_end(before) < 2
    if isinstance(layer, Pool) and before and isinstance(before[-1], Pool):
        return False
    return layer.size <= side
