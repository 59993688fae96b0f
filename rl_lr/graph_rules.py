"""Rewrites of traced graphs that leave out copies and fuse products with what is added to them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, Node

Rule = Callable[[Graph, Node], Node | None]
"""Builds what a node can be replaced by, or None where it does not apply."""

_aten = torch.ops.aten
_NARROW = 16  # fewer outputs than this are computed faster, and reduced faster, lying transposed
_VIEWS = (_aten.expand.default, _aten.view.default, _aten._unsafe_view.default)


def value_of(node: Node) -> Tensor:
    """What the node gave when it was traced."""
    value: Tensor = node.meta["val"]
    return value


def call(graph: Graph, before: Node, target: Any, args: tuple[Any, ...], value: Tensor) -> Node:
    """A new operation in front of a node, and what it gives."""
    with graph.inserting_before(before):
        node = graph.call_function(target, args)
    node.meta["val"] = value
    return node


def _is_transpose(node: Any) -> bool:
    """Whether the node swaps the two dimensions of stacked matrices."""
    return isinstance(node, Node) and node.target is _aten.transpose.int and node.args[1:] == (1, 2)


def _is_product(node: Any) -> bool:
    """Whether the node is a stacked matrix product that nothing else uses."""
    return isinstance(node, Node) and node.target is _aten.bmm.default and len(node.users) == 1


def _drop_identity(graph: Graph, node: Node) -> Node | None:
    """x.detach(), x * 1, and views of the shape that x has → x."""
    source = node.args[0] if node.args else None
    if not isinstance(source, Node) or "val" not in source.meta:
        return None
    same_view = node.target in _VIEWS and value_of(node).shape == value_of(source).shape
    times_one = node.target is _aten.mul.Scalar and node.args[1] == 1
    return source if same_view or times_one or node.target is _aten.detach.default else None


def _cancel_transposes(graph: Graph, node: Node) -> Node | None:
    """xᵀᵀ → x."""
    if _is_transpose(node) and _is_transpose(node.args[0]):
        return node.args[0].args[0]  # type: ignore[union-attr,return-value]
    return None


def _transpose_product(graph: Graph, node: Node) -> Node | None:
    """(aᵀ b)ᵀ → bᵀ a: a weight's gradient in the layout of the weight."""
    if not (_is_transpose(node) and _is_product(node.args[0])):
        return None
    left, right = node.args[0].args  # type: ignore[union-attr]
    if not (_is_transpose(left) and isinstance(right, Node)):
        return None
    turned = call(graph, node, _aten.transpose.int, (right, 1, 2), value_of(right).mT)
    product = (turned, left.args[0])  # type: ignore[union-attr]
    return call(graph, node, _aten.bmm.default, product, value_of(node).contiguous())


def _drop_copy(graph: Graph, node: Node) -> Node | None:
    """A contiguous copy of a product, which is contiguous already → the product."""
    source = node.args[0] if node.args else None
    if node.target is _aten.clone.default and _is_product(source):
        return source  # type: ignore[return-value]
    return None


def _fuse_bias(graph: Graph, node: Node) -> Node | None:
    """c + a b → baddbmm(c, a, b)."""
    if node.target is not _aten.add.Tensor or len(node.args) != 2 or node.kwargs:
        return None
    for bias, product in (node.args, node.args[::-1]):
        fits = isinstance(bias, Node) and _is_product(product)
        if fits and value_of(product).shape == value_of(node).shape:  # type: ignore[arg-type]
            return call(graph, node, _aten.baddbmm.default, (bias, *product.args), value_of(node))  # type: ignore[union-attr]
    return None


def _scatter_onto(graph: Graph, node: Node) -> Node | None:
    """a + scatter_add(0, …) → scatter_add(a, …)."""
    if node.target is not _aten.add.Tensor or len(node.args) != 2 or node.kwargs:
        return None
    for base, scattered in (node.args, node.args[::-1]):
        fits = isinstance(base, Node) and isinstance(scattered, Node) and len(scattered.users) == 1
        if not (fits and scattered.target is _aten.scatter_add.default):  # type: ignore[union-attr]
            continue
        empty, *rest = scattered.args  # type: ignore[union-attr]
        if empty.target is _aten.new_zeros.default and value_of(base).shape == value_of(node).shape:  # type: ignore[union-attr,arg-type]
            return call(graph, node, _aten.scatter_add.default, (base, *rest), value_of(node))
    return None


def turn_narrow(graph: Graph, node: Node) -> Node | None:
    """baddbmm(c, a, b) with few columns → baddbmm(cᵀ, bᵀ, aᵀ)ᵀ, rows innermost in memory."""
    if node.target is not _aten.baddbmm.default or value_of(node).shape[-1] >= _NARROW:
        return None
    if value_of(node).shape[-2] < _NARROW:
        return None  # also what the rule itself makes
    parts = [(call(graph, node, _aten.transpose.int, (n, 1, 2), value_of(n).mT)) for n in node.args]  # type: ignore[arg-type]
    turned = call(graph, node, _aten.baddbmm.default, (parts[0], parts[2], parts[1]), value_of(node).mT)
    return call(graph, node, _aten.transpose.int, (turned, 1, 2), value_of(node))


RULES: tuple[Rule, ...] = (
    _drop_identity,
    _cancel_transposes,
    _transpose_product,
    _drop_copy,
    _fuse_bias,
    _scatter_onto,
)
