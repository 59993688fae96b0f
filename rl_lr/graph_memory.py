"""What a traced graph need not compute or allocate anew: constants, and results in place.

Both passes rest on who shares memory with whom. A *view* shares its source's memory; everything
else that an operation returns is fresh, unless the operation says that it writes an argument.
"""

from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node

_aten = torch.ops.aten
_UNMARKED_VIEWS = (_aten._unsafe_view.default, _aten.reshape.default)
_SHAPE_ONLY = ("ones_like", "zeros_like", "full_like", "empty_like", "new_zeros", "new_ones", "new_full")
_COMMUTATIVE = (_aten.add.Tensor, _aten.mul.Tensor)


def fold_constants(module: GraphModule) -> None:
    """Compute once, now, what is the same at every call.

    That is what depends on shapes alone, and every view of a tensor that the traced function
    holds (a parameter): the tensor may change in place, the view sees it.
    """
    graph, mutated = module.graph, _mutated(module.graph)
    known: dict[Node, tuple[Tensor, bool]] = {}  # value, and whether its content may change
    for node in graph.nodes:
        if node.op == "get_attr":
            known[node] = (getattr(module, str(node.target)), True)
        elif node.op == "call_function" and _root(node) not in mutated:
            value = _constant(node, known)
            if value is not None:
                known[node] = value
    for node, (tensor, _) in known.items():
        if node.op == "call_function" and any(user not in known for user in node.users):
            name = f"_folded_{node.name}"
            setattr(module, name, tensor)
            with graph.inserting_before(node):
                held = graph.create_node("get_attr", name)
            held.meta["val"] = node.meta["val"]
            node.replace_all_uses_with(held)
    graph.eliminate_dead_code()


def _constant(node: Node, known: dict[Node, tuple[Tensor, bool]]) -> tuple[Tensor, bool] | None:
    """The value of a node that is the same at every call, and whether its content may change."""
    operation: Any = node.target
    if not _is_operation(node) or not isinstance(node.meta.get("val"), Tensor):
        return None
    if operation._schema.is_mutable or torch.Tag.nondeterministic_seeded in operation.tags:
        return None
    if operation._schema.name.removeprefix("aten::") in _SHAPE_ONLY:
        like = node.all_input_nodes[0].meta["val"]
        empty = torch.empty_strided(like.shape, like.stride(), dtype=like.dtype, device=like.device)
        return operation(empty, *node.args[1:], **node.kwargs), False
    inputs = node.all_input_nodes
    if any(source not in known for source in inputs):
        return None
    changing = any(known[source][1] for source in inputs)
    if changing and not _is_view(node):
        return None
    args, kwargs = torch.fx.map_arg((node.args, node.kwargs), lambda source: known[source][0])
    return operation(*args, **kwargs), changing


def work_in_place(module: GraphModule) -> None:
    """Let an operation overwrite its first argument where nothing needs that any more."""
    order = {node: index for index, node in enumerate(module.graph.nodes)}
    last_use: dict[Node, int] = {}  # of the memory that a root brought up
    for node, index in order.items():
        for source in node.all_input_nodes:
            root = _root(source)
            last_use[root] = max(last_use.get(root, 0), index)
    for node in list(module.graph.nodes):
        replacement = _in_place(module.graph, node, last_use.get, order[node])
        if replacement is None:
            continue
        target = _root(replacement.args[0])  # type: ignore[arg-type]
        last_use[target] = max(last_use[target], last_use.get(node, 0))
        node.replace_all_uses_with(replacement)
        module.graph.erase_node(node)
        order[replacement] = order[node]


def _in_place(graph: Graph, node: Node, last_use: Any, now: int) -> Node | None:
    """The node's twin that writes its first argument, if there is one and the argument is free."""
    operation: Any = node.target
    if not _is_operation(node) or node.kwargs:
        return None
    packet = getattr(_aten, operation._schema.name.removeprefix("aten::") + "_", None)
    twin = getattr(packet, operation._overloadname, None)
    if twin is None or not twin._schema.is_mutable:
        return None
    orders = [node.args]
    if operation in _COMMUTATIVE and len(node.args) == 2:
        orders.append(node.args[::-1])
    for first, *rest in orders:
        if isinstance(first, Node) and _free(first, rest, node) and last_use(_root(first)) == now:
            with graph.inserting_before(node):
                replacement = graph.call_function(twin, (first, *rest))
            replacement.meta["val"] = node.meta["val"]
            return replacement
    return None


def _free(first: Node, rest: list[Any], node: Node) -> bool:
    """Whether the memory of an argument is the graph's own, fits the result, and is read only once."""
    root = _root(first)
    if root.op != "call_function" or any(isinstance(a, Node) and _root(a) is root for a in rest):
        return False
    have, want = first.meta.get("val"), node.meta.get("val")
    if not isinstance(have, Tensor) or not isinstance(want, Tensor):
        return False
    dense = have.numel() == _value_count(root)
    return dense and (have.shape, have.stride(), have.dtype) == (want.shape, want.stride(), want.dtype)


def _value_count(node: Node) -> int:
    value = node.meta.get("val")
    return value.numel() if isinstance(value, Tensor) else -1


def _is_operation(node: Node) -> bool:
    return node.op == "call_function" and isinstance(node.target, torch._ops.OpOverload)


def _is_view(node: Node) -> bool:
    operation: Any = node.target
    if not _is_operation(node):
        return False
    aliased = any(argument.alias_info is not None for argument in operation._schema.arguments)
    return operation in _UNMARKED_VIEWS or (aliased and not operation._schema.is_mutable)


def _root(node: Node) -> Node:
    """Whoever brought up the memory that the node's value lies in."""
    while _is_view(node) or _writes(node):
        node = node.all_input_nodes[0]
    return node


def _writes(node: Node) -> bool:
    """Whether the node changes its first argument and returns it."""
    operation: Any = node.target
    return _is_operation(node) and bool(operation._schema.is_mutable)


def _mutated(graph: Graph) -> set[Node]:
    return {_root(node) for node in graph.nodes if _writes(node)}
