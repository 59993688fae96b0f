"""Folding constants and working in place change neither values nor what the caller holds."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.fx import GraphModule

from rl_lr.graph import trace

aten = torch.ops.aten


def operations(graph: object) -> list[object]:
    assert isinstance(graph, GraphModule)
    return [node.target for node in graph.graph.nodes if node.op == "call_function"]


def test_views_of_a_held_tensor_are_taken_once_and_follow_its_changes() -> None:
    weight = torch.randn(2, 3, 4)

    def product(x: Tensor) -> Tensor:
        return torch.bmm(x, weight.transpose(1, 2))

    x = torch.randn(2, 5, 4)
    graph = trace(product, x)
    assert operations(graph) == [aten.bmm.default]
    weight.mul_(2.0)
    torch.testing.assert_close(graph(x), product(x))


def test_what_depends_on_shapes_alone_is_computed_once() -> None:
    def seeded(x: Tensor) -> Tensor:
        return x + torch.ones_like(x).div(4.0) * torch.arange(3.0)

    x = torch.randn(2, 3)
    graph = trace(seeded, x)
    torch.testing.assert_close(graph(x), seeded(x))
    assert len(operations(graph)) == 1


def test_a_constant_that_is_written_to_is_made_afresh() -> None:
    def placed(x: Tensor) -> Tensor:
        frame = x.new_zeros(4, 4)
        frame[1:3, 1:3] += x
        return frame

    x = torch.ones(2, 2)
    graph = trace(placed, x)
    for _ in range(2):
        torch.testing.assert_close(graph(x), placed(x))


def test_random_numbers_are_not_constants() -> None:
    def noise(x: Tensor) -> Tensor:
        return x + torch.rand(3)

    x = torch.zeros(3)
    graph = trace(noise, x)
    assert not torch.equal(graph(x), graph(x))


def chain(x: Tensor) -> Tensor:
    return torch.bmm(x, x).relu().exp().sub(1.0)


def reused(x: Tensor) -> tuple[Tensor, Tensor]:
    y = torch.bmm(x, x)
    return y.exp(), y


def seen_through_a_view(x: Tensor) -> Tensor:
    y = torch.bmm(x, x)
    flat = y.view(-1)
    return y.exp().sum() + flat.sum()


def smaller_than_its_memory(x: Tensor) -> Tensor:
    y = torch.bmm(x, x)
    return y[0].exp() + y[1]


def broadcast(x: Tensor) -> Tensor:
    row = x.sum(dim=-1, keepdim=True)
    return row * torch.bmm(x, x)


@pytest.mark.parametrize(
    ("function", "in_place"),
    [(chain, 3), (reused, 0), (seen_through_a_view, None), (smaller_than_its_memory, None), (broadcast, 1)],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_only_memory_that_nobody_needs_is_overwritten(
    function: Callable[[Tensor], Tensor], in_place: int | None
) -> None:
    x = torch.randn(2, 3, 3)
    before, graph = x.clone(), trace(function, x)
    for _ in range(2):
        torch.testing.assert_close(graph(x), function(x))
    assert torch.equal(x, before)
    written = [op for op in operations(graph) if getattr(op, "_schema", None) and op._schema.is_mutable]  # type: ignore[attr-defined]
    assert in_place is None or len(written) == in_place
