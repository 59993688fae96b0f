"""Rewrites of traced graphs that go round slow kernels of torch's CPU backend.

Each replaces one operation by a few others that give the same numbers up to rounding. What they
gain was measured on stacked small networks: rows of some ten to hundred numbers, by the thousand.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import Graph, Node

from rl_lr.graph_rules import Rule, call, value_of

_aten = torch.ops.aten


def _layer_norm(graph: Graph, node: Node) -> Node | None:
    """Normalisation over the last dimension, its statistics by plain sums: the kernel starts anew for each row."""
    if node.target is not _aten.native_layer_norm.default:
        return None
    x, shape, weight, bias, eps = node.args
    if len(shape) != 1 or weight is not None or bias is not None:  # type: ignore[arg-type]
        return None
    mean = _mean(graph, node, x)
    centred = _do(graph, node, _aten.sub.Tensor, x, mean)
    variance = _mean(graph, node, _do(graph, node, _aten.mul.Tensor, centred, centred))
    scale = _do(graph, node, _aten.rsqrt.default, _do(graph, node, _aten.add.Scalar, variance, eps))
    result = _do(graph, node, _aten.mul.Tensor, centred, scale)
    for part in list(node.users):
        part.replace_all_uses_with((result, mean, scale)[part.args[1]])  # type: ignore[index]
    return result


def _mean(graph: Graph, before: Node, rows: Any) -> Node:
    """Over the last dimension, which stays; as a sum, because the kernel for means is half as fast."""
    total = _do(graph, before, _aten.sum.dim_IntList, rows, [-1], True)
    return _do(graph, before, _aten.mul.Scalar, total, 1.0 / value_of(rows).shape[-1])


def _embedding_gradient(graph: Graph, node: Node) -> Node | None:
    """Rows added up where their index points; the kernel sorts them first."""
    if node.target is not _aten.embedding_dense_backward.default:
        return None
    outward, index, count, padding, scaled = node.args
    if padding != -1 or scaled:
        return None
    width = value_of(outward).shape[-1]  # type: ignore[arg-type]
    empty = _do(graph, node, _aten.new_zeros.default, outward, [count, width])
    rows = _do(graph, node, _aten.reshape.default, outward, [-1, width])
    return _do(
        graph,
        node,
        _aten.index_add_.default,
        empty,
        0,
        _do(graph, node, _aten.reshape.default, index, [-1]),
        rows,
    )


def _masked_fill(graph: Graph, node: Node) -> Node | None:
    """A constant mask as a bound or a factor: selecting by truth values is several times slower.

    ``x.masked_fill(mask, -∞) = min(x, bound)``, ``x.masked_fill(mask, 0) = x · (1 - mask)``.
    """
    if node.target is not _aten.masked_fill.Scalar or value_of(node).dtype != torch.float32:
        return None
    x, mask, value = node.args
    if value not in (0, -math.inf) or not _is_constant(mask):
        return None
    if value == 0:
        kept = _do(graph, node, _aten.where.Scalar, mask, 0.0, 1.0)
        return _do(graph, node, _aten.mul.Tensor, x, kept)
    bound = _do(graph, node, _aten.where.Scalar, mask, -math.inf, math.inf)
    return _do(graph, node, _aten.clamp_max.Tensor, x, bound)


KERNELS: tuple[Rule, ...] = (_layer_norm, _embedding_gradient, _masked_fill)


def _do(graph: Graph, before: Node, operation: Any, *args: Any) -> Node:
    """A new operation in front of a node, tried out on tensors without content."""
    with FakeTensorMode():
        values = torch.fx.map_arg(args, lambda argument: _empty(value_of(argument)))
        return call(graph, before, operation, args, operation(*values))


def _empty(value: Tensor) -> Tensor:
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=value.device)


def _is_constant(node: Any) -> bool:
    """Whether a node comes of no input and no tensor that the traced function holds."""
    if not isinstance(node, Node) or node.op != "call_function":
        return False
    return all(_is_constant(source) for source in node.all_input_nodes)
