"""Slow kernels are gone round where the numbers stay the same, and nowhere else."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import grad, vmap
from torch.fx import GraphModule

from rl_lr.graph import trace

aten = torch.ops.aten


def operations(graph: object) -> list[object]:
    assert isinstance(graph, GraphModule)
    return [node.target for node in graph.graph.nodes if node.op == "call_function"]


def assert_same(function: Callable[..., Tensor], *inputs: Tensor) -> list[object]:
    """The traced function gives what the function gives; the operations it is made of."""
    graph = trace(function, *inputs)
    for _ in range(2):  # nothing is left over from the first time
        torch.testing.assert_close(graph(*inputs), function(*inputs), rtol=1e-4, atol=1e-4)
    return operations(graph)


@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_layer_norm_and_its_gradient_by_plain_sums(shift: float) -> None:
    def loss(x: Tensor, weight: Tensor) -> Tensor:
        return (nn.functional.layer_norm(x, (6,), weight) ** 3).sum()

    inputs = shift + torch.randn(4, 5, 6), torch.randn(4, 6)
    made_of = assert_same(vmap(grad(loss)), *inputs)
    assert aten.native_layer_norm.default not in made_of
    assert aten.native_layer_norm_backward.default in made_of  # fed with the statistics


def test_layer_norm_over_several_dimensions_is_left_alone() -> None:
    made_of = assert_same(lambda x: nn.functional.layer_norm(x, (5, 6)), torch.randn(4, 5, 6))
    assert aten.native_layer_norm.default in made_of


@pytest.mark.parametrize("padding", [None, 2])
def test_gradients_of_stacked_embeddings_are_added_up_row_by_row(padding: int | None) -> None:
    def loss(table: Tensor, index: Tensor) -> Tensor:
        return (nn.functional.embedding(index, table, padding) ** 2).sum()

    inputs = torch.randn(4, 7, 3), torch.randint(7, (4, 2, 9))
    made_of = assert_same(vmap(grad(loss)), *inputs)
    assert aten.index_add_.default in made_of
    assert aten.embedding_dense_backward.default not in made_of


def test_the_gradient_of_a_single_embedding_with_padding_is_left_alone() -> None:
    index = torch.randint(7, (2, 9))

    def loss(table: Tensor) -> Tensor:
        return (nn.functional.embedding(index, table, 2) ** 2).sum()

    made_of = assert_same(grad(loss), torch.randn(7, 3))
    assert aten.embedding_dense_backward.default in made_of


@pytest.mark.parametrize(("value", "left"), [(-math.inf, False), (0.0, False), (1.0, True)])
def test_constant_masks_become_bounds_and_factors(value: float, left: bool) -> None:
    def masked(x: Tensor) -> Tensor:
        future = torch.ones(5, 5, dtype=torch.bool).triu(1)
        return (x + 1.0).masked_fill(future, value)

    made_of = assert_same(masked, torch.randn(3, 5, 5))
    fills = {aten.masked_fill.Scalar, aten.masked_fill_.Scalar}
    assert bool(fills & set(made_of)) == left


def test_masks_that_depend_on_the_input_are_left_alone() -> None:
    made_of = assert_same(lambda x: (x + 1.0).masked_fill(x > 0, 0.0), torch.randn(3, 5))
    assert {aten.masked_fill.Scalar, aten.masked_fill_.Scalar} & set(made_of)


def test_infinite_numbers_outside_of_the_mask_stay() -> None:
    def causal(x: Tensor) -> Tensor:
        return x.masked_fill(torch.ones(2, 2, dtype=torch.bool).triu(1), -math.inf)

    x = torch.tensor([[math.inf, math.inf], [-math.inf, math.nan]])
    torch.testing.assert_close(trace(causal, x)(x), causal(x), equal_nan=True)
