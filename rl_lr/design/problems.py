"""What designs are judged on: digits somewhere in a noisy field, and characters of standard-library source."""

import math
import zlib
from dataclasses import asdict, dataclass
from functools import cache, partial
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from rl_lr.design.architecture import Architecture, LayerSpace
from rl_lr.design.cells import Cell, CellNet, CellSpace, Lstm, Recurrence
from rl_lr.design.space import Design, Space
from rl_lr.optimizers import OptimizerSpec
from rl_lr.tasks.real import digits, source_text
from rl_lr.tasks.tensors import TensorTask, cross_entropy, next_token

Part = Literal["selection", "test"]
"""Rows that no child trains on: those that searches are paid by, and those that results are reported on."""

_SPEC = OptimizerSpec("adamw", lr=3e-3, weight_decay=0.01)

D = TypeVar("D", bound=Design)


class Problem(Protocol[D]):
    """Data, and how a design becomes a task on them."""

    @property
    def space(self) -> Space[D]:
        """What is designed."""
        ...

    @property
    def facts(self) -> dict[str, Any]:
        """All that results depend on, as JSON can write it."""
        ...

    def task(self, design: D, part: Part) -> TensorTask:
        """The design as a task whose loss in evaluation is what it is judged by, on those rows held out."""
        ...

    def reward(self, loss: float) -> float:
        """What an agent is paid for a held-out loss, 0 (nothing learnt, or lost) to 1."""
        ...

    def parameters(self, design: D) -> int:
        """Weights and biases."""
        ...

    def parse(self, text: str) -> D:
        """A design from its string form."""
        ...


@dataclass(frozen=True)
class Classifier(TensorTask):
    """Trained on a criterion, judged by the share of rows that it gets wrong."""

    def loss(self, model: nn.Module, *batch: Tensor) -> Tensor:
        """The criterion in training, the share of wrong answers in evaluation."""
        if model.training:
            return super().loss(model, *batch)
        x, y = batch
        wrong: Tensor = (model(x).argmax(dim=-1) != y).float().mean()
        return wrong


@dataclass(frozen=True)
class Digits:
    """scikit-learn's digits, 8×8 pixels, each somewhere in a larger, noisy field; judged by accuracy.

    Where a digit lies is random, so convolution and pooling are worth something; rows are few and
    training is short, so that networks differ.
    """

    space: LayerSpace = LayerSpace()  # noqa: RUF009 - frozen
    """Architectures, and with them the side of the field."""
    noise: float = 0.1
    """Standard deviation of what is added to every pixel; ink is 1, paper 0."""
    rows: int = 900
    """Digits to train on; of the others a third is for selection and the rest for the test."""
    copies: int = 3
    """Times that each of the others is laid down, so that chance decides less."""

    def __post_init__(self) -> None:
        """Refuse what leaves nothing to see or to judge by."""
        if self.space.inputs[0] != 1 or self.space.inputs[1] < 8:
            raise ValueError(
                f"Digits are grey and 8×8: give inputs (1, 8) or larger, got {self.space.inputs}."
            )
        if not 1 <= self.rows <= 1500 or self.copies < 1:
            raise ValueError(
                f"Train on 1 to 1500 of the 1797 digits, and copy others at least once, got {self.rows} and {self.copies}."
            )

    @property
    def facts(self) -> dict[str, Any]:
        """Settings, and a checksum of all rows."""
        return {
            "problem": "digits",
            **asdict(self),
            "data": _checksum(*(t for rows in _fields(self) for t in rows)),
        }

    def task(self, design: Architecture, part: Part) -> TensorTask:
        """Images ``[rows, 1, side, side]`` and digits."""
        train, *apart = _fields(self)
        held_out = apart[part == "test"]
        factory = partial(design.build, self.space.inputs, 10)
        return Classifier(str(design), _SPEC, 32, factory, train, cross_entropy, held_out)

    def reward(self, loss: float) -> float:
        """Accuracy."""
        return 1.0 - loss

    def parameters(self, design: Architecture) -> int:
        """Weights and biases."""
        return design.parameters(self.space.inputs, 10)

    def parse(self, text: str) -> Architecture:
        """An architecture that fits the field."""
        design = Architecture.parse(text)
        design.shapes(self.space.inputs)
        return design


@cache
def _fields(problem: Digits) -> tuple[tuple[Tensor, Tensor], ...]:
    """Rows for training, selection and test."""
    images, labels, held_images, held_labels = digits()
    x, y = torch.cat((images, held_images)), torch.cat((labels, held_labels))
    cut = problem.rows + (len(x) - problem.rows) // 3
    rng = np.random.default_rng(0)
    parts = ((0, problem.rows, 1), (problem.rows, cut, problem.copies), (cut, len(x), problem.copies))
    return tuple((_laid_down(rng, x[a:b].repeat(n, 1, 1), problem), y[a:b].repeat(n)) for a, b, n in parts)


def _laid_down(rng: np.random.Generator, images: Tensor, problem: Digits) -> Tensor:
    """Images ``[rows, 8, 8]``, each somewhere in a field of noise, ``[rows, 1, side, side]``."""
    side = problem.space.inputs[1]
    noise = rng.standard_normal((len(images), 1, side, side), dtype=np.float32)
    field = problem.noise * torch.from_numpy(noise)
    for row, (down, across) in enumerate(rng.integers(side - 8 + 1, size=(len(images), 2))):
        field[row, 0, down : down + 8, across : across + 8] += images[row]
    return field


@dataclass(frozen=True)
class Source:
    """Characters of Python's standard library, the next one to be foretold; judged by nats per character."""

    space: CellSpace = CellSpace()  # noqa: RUF009 - frozen
    """Cells."""
    width: int = 20
    """Numbers in the state of a cell."""
    length: int = 16
    """Characters in a row."""

    @property
    def facts(self) -> dict[str, Any]:
        """Settings, and a checksum of all rows."""
        train, held_out, _ = source_text(self.length)
        return {"problem": "source", **asdict(self), "data": _checksum(train, held_out)}

    def task(self, design: Recurrence, part: Part) -> TensorTask:
        """Rows of characters; every second held-out one is for the test."""
        train, held_out, vocabulary = source_text(self.length)
        apart = held_out[0::2] if part == "selection" else held_out[1::2]
        factory = partial(CellNet, design, vocabulary, self.width)
        return TensorTask(str(design), _SPEC, 16, factory, (train,), next_token, (apart,))

    def reward(self, loss: float) -> float:
        """Share of the nats of a blind guess that are saved."""
        return max(0.0, 1.0 - loss / math.log(source_text(self.length)[2]))

    def parameters(self, design: Recurrence) -> int:
        """Weights and biases."""
        return sum(p.numel() for p in self.task(design, "test").model().parameters())

    def parse(self, text: str) -> Recurrence:
        """A cell, or ``lstm``."""
        return Lstm.parse(text) if text.startswith("lstm") else Cell.parse(text)


def _checksum(*rows: Tensor) -> str:
    total = 0
    for tensor in rows:
        total = zlib.crc32(tensor.contiguous().numpy().tobytes(), total)
    return f"{total:08x}"
