"""Tracing: a step of stacked runs as a flat list of tensor operations.

``vmap``, ``functional_call`` and autograd cost more than the arithmetic of small networks. Traced
once (``make_fx``), forward and backward pass become a plain sequence of ATen calls without them;
rewrites then remove copies, turn each linear layer into one fused product, and go round slow kernels.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from rl_lr.graph_kernels import KERNELS
from rl_lr.graph_memory import fold_constants, work_in_place
from rl_lr.graph_rules import RULES, Rule, turn_narrow, value_of

_aten = torch.ops.aten


def trace(function: Callable[..., Any], *inputs: Any) -> Callable[..., Any]:
    """The function as a graph of the operations that it makes of inputs of these shapes.

    The graph repeats what was traced: Python side effects of the function happen only now.
    Random numbers are drawn afresh at every call, and in-place changes are kept. Tensors that
    the function holds, such as parameters, are held by the graph too: change them in place.
    """

    def plain(*inputs: Any) -> Any:  # the tracer would count the self of a bound method
        return function(*inputs)

    module = make_fx(plain)(*inputs)
    _rewrite(module, (*RULES, *KERNELS, turn_narrow))
    try:
        module(*inputs)
    except RuntimeError:  # something further on needs the rows to lie as they did
        module = make_fx(plain)(*inputs)
        _rewrite(module, (*RULES, *KERNELS))
    return module


def products(graph: Callable[..., Any]) -> list[tuple[Tensor, Tensor]]:
    """Tensors like the operands of every stacked matrix product in a traced graph."""
    assert isinstance(graph, GraphModule)
    pairs = []
    for node in graph.graph.nodes:
        if node.target in (_aten.bmm.default, _aten.baddbmm.default):
            left, right = (value_of(operand) for operand in node.args[-2:])
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
