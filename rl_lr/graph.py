"""Tracing: a step of stacked runs as a flat list of tensor operations.

``vmap``, ``functional_call`` and autograd cost more than the arithmetic of small networks. Traced
once (``make_fx``), forward and backward pass become a plain sequence of ATen calls without them;
a few rewrites then remove copies and turn each linear layer into one fused product.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx

from rl_lr.graph_memory import fold_constants, work_in_place

Rule = Callable[[Graph, Node], Node | None]
"""Builds what a node can be replaced by, or None where it does not apply."""

_aten = torch.ops.aten
_NARROW = 16  # fewer outputs than this are computed faster, and reduced faster, lying transposed
_VIEWS = (_aten.expand.default, _aten.view.default, _aten._unsafe_view.default)


def trace(function: Callable[..., Any], *inputs: Any) -> Callable[..., Any]:
    """The function as a graph of the operations that it makes of inputs of these shapes.

    The graph repeats what was traced: Python side effects of the function happen only now.
    Random numbers are drawn afresh at every call, and in-place changes are kept. Tensors that
    the function holds, such as parameters, are held by the graph too: change them in place.
    """

    def plain(*inputs: Any) -> Any:  # the tracer would count the self of a bound method
        return function(*inputs)

    module = make_fx(plain)(*inputs)
    _rewrite(module, (*_RULES, _turn_narrow))
    try:
        module(*inputs)
    except RuntimeError:  # something further on needs the rows to lie as they did
        module = make_fx(plain)(*inputs)
        _rewrite(module, _RULES)
    return module


def products(graph: Callable[..., Any]) -> list[tuple[Tensor, Tensor]]:
    """Tensors like the operands of every stacked matrix product in a traced graph."""
    assert isinstance(graph, GraphModule)
    pairs = []
    for node in graph.graph.nodes:
        if node.target in (_aten.bmm.default, _aten.baddbmm.default):
            left, right = (_value(operand) for operand in node.args[-2:])
            pairs.append((_like(left), _like(right)))
    return pairs


def _like(value: Tensor) -> Tensor:
    tensor = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=value.device)
    return tensor.normal_()


def _rewrite(module: GraphModule, rules: tuple[Rule, ...]) -> None:
    """Apply the rules until none fits any operation."""
    while _rewrite_once(module.graph, rules):
        module.graph.eliminate_dead_code()
    fold_constants(module)
    work_in_place(module)
    module.recompile()


def _rewrite_once(graph: Graph, rules: tuple[Rule, ...]) -> bool:
    """Apply to every operation the first rule that fits it; tell whether any did."""
    changed = False
    for node in [node for node in graph.nodes if node.op == "call_function"]:
        new = next((new for rule in rules if (new := rule(graph, node)) is not None), None)
        if new is not None:
            node.replace_all_uses_with(new)
            graph.erase_node(node)
            changed = True
    return changed


def _value(node: Node) -> Tensor:
    value: Tensor = node.meta["val"]
    return value


def _is_transpose(node: Any) -> bool:
    """Whether the node swaps the two dimensions of stacked matrices."""
    return isinstance(node, Node) and node.target is _aten.transpose.int and node.args[1:] == (1, 2)


def _is_product(node: Any) -> bool:
    """Whether the node is a stacked matrix product that nothing else uses."""
    return isinstance(node, Node) and node.target is _aten.bmm.default and len(node.users) == 1


def _call(graph: Graph, before: Node, target: Any, args: tuple[Any, ...], value: Tensor) -> Node:
    with graph.inserting_before(before):
        node = graph.call_function(target, args)
    node.meta["val"] = value
    return node


def _drop_identity(graph: Graph, node: Node) -> Node | None:
    """x.detach(), x * 1, and views of the shape that x has → x."""
    source = node.args[0] if node.args else None
    if not isinstance(source, Node) or "val" not in source.meta:
        return None
    same_view = node.target in _VIEWS and _value(node).shape == _value(source).shape
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
    turned = _call(graph, node, _aten.transpose.int, (right, 1, 2), _value(right).mT)
    product = (turned, left.args[0])  # type: ignore[union-attr]
    return _call(graph, node, _aten.bmm.default, product, _value(node).contiguous())


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
        if fits and _value(product).shape == _value(node).shape:  # type: ignore[arg-type]
            return _call(graph, node, _aten.baddbmm.default, (bias, *product.args), _value(node))  # type: ignore[union-attr]
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
        if empty.target is _aten.new_zeros.default and _value(base).shape == _value(node).shape:  # type: ignore[union-attr,arg-type]
            return _call(graph, node, _aten.scatter_add.default, (base, *rest), _value(node))
    return None


def _turn_narrow(graph: Graph, node: Node) -> Node | None:
    """baddbmm(c, a, b) with few columns → baddbmm(cᵀ, bᵀ, aᵀ)ᵀ, rows innermost in memory."""
    if node.target is not _aten.baddbmm.default or _value(node).shape[-1] >= _NARROW:
        return None
    if _value(node).shape[-2] < _NARROW:
        return None  # also what the rule itself makes
    parts = [(_call(graph, node, _aten.transpose.int, (n, 1, 2), _value(n).mT)) for n in node.args]  # type: ignore[arg-type]
    turned = _call(graph, node, _aten.baddbmm.default, (parts[0], parts[2], parts[1]), _value(node).mT)
    return _call(graph, node, _aten.transpose.int, (turned, 1, 2), _value(node))


_RULES: tuple[Rule, ...] = (
    _drop_identity,
    _cancel_transposes,
    _transpose_product,
    _drop_copy,
    _fuse_bias,
    _scatter_onto,
)
