"""Recurrent cells as binary trees (neural architecture search, Zoph & Le, 1611.01578, section 3.4).

Every leaf combines a linear map of the input with one of the last output; every inner node combines
its two children; each result passes an activation, and the root's is the new output. One leaf also
takes in the memory, and the new memory is what one node held before its activation.
"""

import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from rl_lr.design.space import Taken
from rl_lr.tasks.networks import embedding

COMBINE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"add": torch.add, "multiply": torch.mul}
"""How a node joins two values, elementwise."""
ACTIVATE: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda x: x,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
}
"""What a node does to the result."""


@dataclass(frozen=True)
class Node:
    """``activation(combination(left, right))``."""

    combination: str
    """A name of :data:`COMBINE`."""
    activation: str
    """A name of :data:`ACTIVATE`."""

    def __post_init__(self) -> None:
        """Refuse names that mean nothing."""
        if self.combination not in COMBINE or self.activation not in ACTIVATE:
            raise ValueError(
                f"There is no node {self.combination}-{self.activation}: join {' or '.join(COMBINE)} and one of "
                f"{', '.join(ACTIVATE)}."
            )

    def __str__(self) -> str:
        """``combination-activation``."""
        return f"{self.combination}-{self.activation}"

    def before(self, left: Tensor, right: Tensor) -> Tensor:
        """The combination alone."""
        return COMBINE[self.combination](left, right)

    def after(self, joined: Tensor) -> Tensor:
        """The activation alone."""
        return ACTIVATE[self.activation](joined)


@dataclass(frozen=True)
class Cell:
    """A cell of 2, 4, 8, … leaves.

    .. code-block:: text

        leaf k:         a_k = act_k(join_k(W_k x + b_k, U_k h))
        memory's leaf:  a_i = act'(join'(a_i, c))                   afterwards, by `inject`
        inner node:     a_n = act_n(join_n(a_left, a_right))
        new output:     h = a_root;   new memory: c = join_m(...) of node m, before its activation

    with x the input, h the last output and c the memory, ``[..., width]`` each.

    >>> Cell.parse("add-tanh multiply-relu multiply-sigmoid | add-relu at 0, keep 1")  # the paper's example
    Cell(add-tanh multiply-relu multiply-sigmoid | add-relu at 0, keep 1)
    """

    nodes: tuple[Node, ...]
    """Leaves first, then level by level to the root."""
    inject: Node
    """How the memory joins its leaf."""
    at: int
    """Which leaf the memory joins."""
    keep: int
    """Which node's value, before its activation, is the new memory."""

    def __post_init__(self) -> None:
        """Refuse what is no tree."""
        leaves = self.leaves
        if leaves < 2 or leaves & (leaves - 1) or len(self.nodes) != 2 * leaves - 1:
            raise ValueError(
                f"A cell has 3, 7, 15, … nodes, got {len(self.nodes)}: name leaves, inner nodes and root."
            )
        if not (0 <= self.at < leaves and 0 <= self.keep < len(self.nodes)):
            raise ValueError(
                f"The memory joins one of the leaves 0 to {leaves - 1} and is kept from one of the nodes 0 to "
                f"{len(self.nodes) - 1}, got {self.at} and {self.keep}."
            )

    @classmethod
    def parse(cls, text: str) -> "Cell":
        """Read the string form.

        Raises:
            ValueError: if it describes no cell.
        """
        found = re.fullmatch(r"(.+) \| (\w+-\w+) at (\d+), keep (\d+)", text)
        if found is None:
            raise ValueError(f"{text!r} describes no cell: write its nodes, then '| add-relu at 0, keep 1'.")
        nodes = tuple(Node(*word.partition("-")[::2]) for word in found[1].split())
        return cls(nodes, Node(*found[2].partition("-")[::2]), int(found[3]), int(found[4]))

    def __str__(self) -> str:
        """Nodes, ``|``, how the memory joins, at which leaf, and which node is kept."""
        return f"{' '.join(map(str, self.nodes))} | {self.inject} at {self.at}, keep {self.keep}"

    def __repr__(self) -> str:
        """The string form, named."""
        return f"Cell({self})"

    @property
    def leaves(self) -> int:
        """How many."""
        return (len(self.nodes) + 1) // 2

    def children(self, node: int) -> tuple[int, int]:
        """The two nodes below an inner one."""
        first = 2 * (node - self.leaves)
        return first, first + 1

    def step(self, inward: Tensor, recurrent: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """One step of time.

        Args:
            inward: ``W x + b`` of all leaves side by side, ``[..., leaves · width]``.
            recurrent: ``U h``, as ``inward``.
            memory: c, ``[..., width]``.

        Returns:
            The new output and the new memory, ``[..., width]`` each.
        """
        values: list[Tensor] = []
        kept = memory
        for index, (node, x, h) in enumerate(
            zip(self.nodes, inward.chunk(self.leaves, -1), recurrent.chunk(self.leaves, -1), strict=False)
        ):
            joined = node.before(x, h)
            kept = joined if index == self.keep else kept
            value = node.after(joined)
            values.append(self.inject.after(self.inject.before(value, memory)) if index == self.at else value)
        for index in range(self.leaves, len(self.nodes)):
            left, right = self.children(index)
            joined = self.nodes[index].before(values[left], values[right])
            kept = joined if index == self.keep else kept
            values.append(self.nodes[index].after(joined))
        return values[-1], kept


@dataclass(frozen=True)
class Lstm:
    """The long short-term memory (Hochreiter & Schmidhuber, 1997) with the maps of a cell of four leaves.

    .. code-block:: text

        c = σ(forget + f) ⊙ c + σ(enter) ⊙ tanh(candidate);   h = σ(leave) ⊙ tanh(c)

    At the same width it has exactly as many parameters as a :class:`Cell` of four leaves.
    """

    forget: int = 0
    """f, added to what opens the forget gate; 1 is often better (Jozefowicz et al., 2015)."""
    leaves: ClassVar[int] = 4
    """Maps of the input, as of a cell."""

    @classmethod
    def parse(cls, text: str) -> "Lstm":
        """Read the string form.

        Raises:
            ValueError: if it is none.
        """
        found = re.fullmatch(r"lstm(?:\+(\d+))?", text)
        if found is None:
            raise ValueError(
                f"{text!r} is no LSTM: write lstm, or lstm+1 for a forget gate that begins open."
            )
        return cls(int(found[1] or 0))

    def __str__(self) -> str:
        """``lstm`` or, with f = 1, ``lstm+1``."""
        return f"lstm+{self.forget}" if self.forget else "lstm"

    def step(self, inward: Tensor, recurrent: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`Cell.step`."""
        enter, forget, candidate, leave = (inward + recurrent).chunk(4, dim=-1)
        memory = (forget + self.forget).sigmoid() * memory + enter.sigmoid() * candidate.tanh()
        return leave.sigmoid() * memory.tanh(), memory


Recurrence = Cell | Lstm


class CellNet(nn.Module):
    """A cell over embedded tokens, unrolled: ``[..., length]`` → logits ``[..., length, vocabulary]``."""

    def __init__(self, cell: Recurrence, vocabulary: int, width: int) -> None:
        super().__init__()
        self.cell, self.width = cell, width
        self.embed = embedding(vocabulary, cell.leaves * width)  # W x + b of every leaf, for one-hot x
        self.recur = nn.Linear(width, cell.leaves * width, bias=False)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of the token after each position."""
        inward = self.embed(tokens)
        state = memory = torch.zeros_like(inward[..., 0, : self.width])
        states = []
        for position in range(tokens.shape[-1]):
            state, memory = self.cell.step(inward[..., position, :], self.recur(state), memory)
            states.append(state)
        logits: Tensor = self.head(torch.stack(states, dim=-2))
        return logits


@dataclass(frozen=True)
class CellSpace:
    """Cells of one size: an action says a combination, an activation, or the number of a node."""

    leaves: int = 4
    """Leaves of the tree: 2, 4 or 8 (the paper's)."""

    def __post_init__(self) -> None:
        """Refuse what is no tree."""
        if self.leaves not in (2, 4, 8):
            raise ValueError(f"A cell of this space has 2, 4 or 8 leaves, got {self.leaves}.")

    @property
    def words(self) -> tuple[str, ...]:
        """Combinations, activations, and nodes by number."""
        return (*COMBINE, *ACTIVATE, *(str(node) for node in range(2 * self.leaves - 1)))

    @property
    def longest(self) -> int:
        """Two for every node and for how the memory joins, and two numbers."""
        return 4 * self.leaves + 2

    def legal(self, taken: Taken) -> list[int]:
        """What this place of the description asks for."""
        joins, acts = len(COMBINE), len(ACTIVATE)
        if len(taken) < self.longest - 2:
            return list(range(joins)) if len(taken) % 2 == 0 else list(range(joins, joins + acts))
        counts = {self.longest - 2: self.leaves, self.longest - 1: 2 * self.leaves - 1}
        return [joins + acts + node for node in range(counts.get(len(taken), 0))]

    def state(self, taken: Taken) -> Hashable:
        """The place, and the last action."""
        return len(taken), taken[-1:]

    def design(self, taken: Taken) -> Cell:
        """The cell that a complete sequence describes."""
        named = [self.words[one] for one in taken[:-2]]
        *nodes, inject = (Node(*pair) for pair in zip(named[::2], named[1::2], strict=True))
        return Cell(tuple(nodes), inject, int(self.words[taken[-2]]), int(self.words[taken[-1]]))
