"""Traced graphs compute what was traced, with the copies gone."""

import torch
from torch import Tensor
from torch.fx import GraphModule

from rl_lr.graph import trace

aten = torch.ops.aten


def operations(graph: object) -> list[object]:
    assert isinstance(graph, GraphModule)
    return [node.target for node in graph.graph.nodes if node.op == "call_function"]


def test_a_linear_layer_becomes_one_fused_product() -> None:
    def layer(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return torch.bmm(x, weight.transpose(1, 2)) + bias[:, None]

    inputs = torch.randn(3, 5, 4), torch.randn(3, 2, 4), torch.randn(3, 2)
    graph = trace(layer, *inputs)
    torch.testing.assert_close(graph(*inputs), layer(*inputs))
    assert aten.baddbmm.default in operations(graph)
    assert aten.add.Tensor not in operations(graph)


def test_a_narrow_layer_is_computed_lying_on_its_side_unless_a_later_view_forbids_it() -> None:
    def narrow(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return (torch.bmm(x, weight.transpose(1, 2)) + bias[:, None]).exp()

    def viewed(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return aten.view.default(narrow(x, weight, bias), [3, 60])  # type: ignore[no-any-return]

    inputs = torch.randn(3, 20, 4), torch.randn(3, 3, 4), torch.randn(3, 3)
    for function, lies_aside in ((narrow, True), (viewed, False)):
        graph = trace(function, *inputs)
        torch.testing.assert_close(graph(*inputs), function(*inputs))
        assert operations(graph).count(aten.transpose.int) == (3 if lies_aside else 1)


def test_a_transposed_product_is_computed_the_other_way_round_without_a_copy() -> None:
    def gradient(x: Tensor, outward: Tensor) -> Tensor:
        return torch.bmm(x.transpose(1, 2), outward).transpose(1, 2).contiguous()

    inputs = torch.randn(3, 5, 4), torch.randn(3, 5, 2)
    graph = trace(gradient, *inputs)
    torch.testing.assert_close(graph(*inputs), gradient(*inputs))
    assert operations(graph).count(aten.transpose.int) == 1
    assert aten.clone.default not in operations(graph)


def test_a_product_that_is_used_twice_is_kept() -> None:
    def twice(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        product = torch.bmm(a, b)
        return product + c, product

    inputs = torch.randn(2, 3, 3), torch.randn(2, 3, 3), torch.randn(2, 3, 3)
    for ours, theirs in zip(trace(twice, *inputs)(*inputs), twice(*inputs), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_changes_in_place_and_fresh_random_numbers_survive() -> None:
    def count(total: Tensor) -> Tensor:
        total.add_(1.0)
        return torch.rand_like(total)

    graph, total = trace(count, torch.zeros(4)), torch.zeros(4)
    assert not torch.equal(graph(total), graph(total))
    assert total.tolist() == [2.0] * 4


def test_identities_vanish() -> None:
    def nothing(x: Tensor) -> Tensor:
        once: Tensor = aten.mul.Scalar(x.detach(), 1)
        return once.view(2, 3).expand(2, 3)

    graph, x = trace(nothing, torch.randn(2, 3)), torch.randn(2, 3)
    assert torch.equal(graph(x), x)
    assert operations(graph) == []
