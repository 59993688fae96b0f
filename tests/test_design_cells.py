"""Cells as trees: the paper's example by hand, what an agent may say, and what it becomes."""

import numpy as np
import pytest
import torch

from rl_lr.design.cells import Cell, CellNet, CellSpace
from rl_lr.design.space import uniformly, walk

EXAMPLE = "add-tanh multiply-relu multiply-sigmoid | add-relu at 0, keep 1"


def test_the_papers_example_computes_what_the_paper_says() -> None:
    """Section 3.4 and figure 5 of 1611.01578."""
    cell, width = Cell.parse(EXAMPLE), 5
    inward, recurrent, memory = torch.randn(2 * width), torch.randn(2 * width), torch.randn(width)
    w1, w2 = inward.split(width)
    u1, u2 = recurrent.split(width)
    first = torch.relu(torch.tanh(w1 + u1) + memory)
    second = torch.relu(w2 * u2)
    output, kept = cell.step(inward, recurrent, memory)
    torch.testing.assert_close(output, torch.sigmoid(first * second))
    torch.testing.assert_close(kept, w2 * u2)


def test_the_memory_may_come_from_any_node() -> None:
    text = "add-tanh add-relu multiply-sigmoid | multiply-tanh at 1, keep 2"
    inward, recurrent, memory = torch.randn(6), torch.randn(6), torch.randn(3)
    first = torch.tanh(inward[:3] + recurrent[:3])
    second = torch.tanh(torch.relu(inward[3:] + recurrent[3:]) * memory)
    output, kept = Cell.parse(text).step(inward, recurrent, memory)
    torch.testing.assert_close(kept, first * second)
    torch.testing.assert_close(output, kept.sigmoid())


def test_a_cell_is_written_and_read() -> None:
    for seed in range(30):
        space = CellSpace((2, 4, 8)[seed % 3])
        cell = space.design(walk(space, uniformly(np.random.default_rng(seed))))
        assert Cell.parse(str(cell)) == cell
        assert cell.leaves == space.leaves


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("add-tanh", "describes no cell"),
        (EXAMPLE.replace("tanh", "elu"), "There is no node add-elu"),
        (EXAMPLE.replace("multiply-relu ", ""), "has 3, 7, 15, … nodes, got 2"),
        (EXAMPLE.replace("at 0", "at 2"), "joins one of the leaves 0 to 1"),
        (EXAMPLE.replace("keep 1", "keep 3"), "kept from one of the nodes 0 to 2"),
    ],
)
def test_what_is_no_cell_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Cell.parse(text)


def test_a_space_of_no_tree_is_refused() -> None:
    with pytest.raises(ValueError, match="2, 4 or 8 leaves, got 3"):
        CellSpace(3)


def test_a_cell_sees_the_past_and_never_the_future() -> None:
    torch.manual_seed(0)
    net = CellNet(Cell.parse(EXAMPLE.replace("multiply", "add")), vocabulary=7, width=6)
    tokens = torch.randint(7, (2, 9))
    other = tokens.clone()
    other[:, 4] = (other[:, 4] + 1) % 7
    before, after = net(tokens), net(other)
    assert before.shape == (2, 9, 7)
    torch.testing.assert_close(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 5:], after[:, 5:])
