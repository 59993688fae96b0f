"""Sketches: the coordinates by which the vectors of a network, its gradient and weights, are measured."""

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

Granularity = Literal["network", "tensor"]
"""What has a rate of its own, moved by its own signals: the whole network, or every parameter tensor."""

SKETCH = 1024
"""Most coordinates in the sketch of a network."""

TENSOR_SKETCH = 256
"""Most coordinates in the sketch of one tensor."""


def check_granularity(granularity: str) -> None:
    """Refuse an unknown granularity."""
    if granularity not in get_args(Granularity):
        raise ValueError(
            f"granularity is {granularity!r}: choose 'network', one rate for all, or 'tensor', one for each parameter."
        )


def sketch_stride(count: int, most: int = SKETCH) -> int:
    """Distance between sketched coordinates: 1, or the first prime ≥ count / most.

    A prime shares no factor with usual layer widths, so the sample does not fall on one column.

    >>> sketch_stride(1000), sketch_stride(2410), sketch_stride(10_000_000)
    (1, 3, 9767)
    """
    stride = math.ceil(count / most)
    while stride > 1 and any(stride % k == 0 for k in range(2, math.isqrt(stride) + 1)):
        stride += 1
    return max(1, stride)


class Sketches:
    """Takes a fixed strided sample of parameters or gradients, for one run or many.

    Attributes:
        rows: sketches of each run: one, or one for each tensor.
        width: coordinates in a sketch; shorter ones end in zeros, which no product notices.

    Args:
        sizes: elements of each tensor of a run.
        granularity: whether the whole network has a sketch, or each tensor.
    """

    def __init__(self, sizes: Sequence[int], granularity: Granularity = "network") -> None:
        self._whole = granularity == "network"
        if self._whole:
            self._strides = [sketch_stride(sum(sizes))]
            self.rows, self.width = 1, -(-sum(sizes) // self._strides[0])
        else:
            self._strides = [sketch_stride(size, TENSOR_SKETCH) for size in sizes]
            self.rows = len(sizes)
            self.width = max(-(-size // stride) for size, stride in zip(sizes, self._strides, strict=True))

    def __call__(self, tensors: Sequence[Tensor], device: torch.device | None = None) -> Tensor:
        """Sketches of ``[runs, ...]`` tensors, ``[runs · rows, width]`` float32; the rows of a run are neighbours.

        What was added since the sizes were told is left out, what is missing is zero.

        Args:
            tensors: in the order of the sizes.
            device: where the sketches are wanted; None leaves them where the tensors are.
        """
        if self._whole:
            return self._fit(torch.cat(_strided(tensors, self._strides[0], device), dim=1))
        rows = [
            self._fit(_strided([tensor], stride, device)[0])
            for tensor, stride in zip(tensors, self._strides, strict=False)
        ]
        return torch.stack(rows, dim=1).flatten(0, 1)

    def _fit(self, rows: Tensor) -> Tensor:
        missing = self.width - rows.shape[1]
        rows = rows.float()
        return rows if missing == 0 else torch.nn.functional.pad(rows, (0, missing))


def _strided(tensors: Sequence[Tensor], stride: int, device: torch.device | None) -> list[Tensor]:
    """Every ``stride``-th coordinate of the concatenated tensors, ``[runs, …]`` in pieces."""
    offset, pieces = 0, []
    for tensor in tensors:
        rows = tensor if tensor.dim() == 2 else tensor.reshape(len(tensor), -1)
        start, size = -offset % stride, rows.shape[1]
        offset += size
        if start and start >= size:  # most biases and norms of a large network: no coordinate falls on them
            continue
        piece = rows[:, start::stride]
        pieces.append(piece if device is None else piece.to(device))
    return pieces
