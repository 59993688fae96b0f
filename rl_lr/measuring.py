"""What is measured around an optimizer's steps: sketches of its weights before, and of its gradients after."""

import torch
from torch import Tensor
from torch.optim import Optimizer

from rl_lr.sketches import Granularity, Sketches


class Measuring:
    """Sketches of what an optimizer trains, in which every parameter keeps its place.

    A layer that is frozen later stays where it was, with a gradient of zero; one that is thawed or added later comes
    after those that were there, where no coordinate is left for it. Where parameters are replaced by others, as by who
    prunes or grows a layer, what there is now is measured in the order of the groups. Complex numbers are two real ones,
    and where an optimizer maximizes, its gradient is that of what it minimizes.

    Attributes:
        rows: sketches, one or one for each tensor.
        width: coordinates in each.
        sharded: whether weights are spread over processes.
        device: of the first parameter, where the sketches are wanted.

    Args:
        optimizer: whose steps are measured.
        granularity: whether the network has a sketch, or each tensor; then also what is frozen, which may change.
    """

    def __init__(self, optimizer: Optimizer, granularity: Granularity) -> None:
        self._optimizer, self._frozen_too = optimizer, granularity == "tensor"
        self._known: dict[Tensor, bool] = {}  # and whether it is maximized
        self._notice()
        parameters = [*self._known]
        self.sharded = any(shard(parameter) is not parameter for parameter in parameters)
        self.device = parameters[0].device
        self._sketches = Sketches([_real(shard(p.detach())).numel() for p in parameters], granularity)
        self.rows, self.width = self._sketches.rows, self._sketches.width

    def weights(self) -> Tensor:
        """Sketches of the parameters, ``[rows, width]``."""
        self._notice()
        return self._sketch([parameter.detach() for parameter in self._known])

    def gradients(self) -> Tensor:
        """Sketches of their gradients, ``[rows, width]``."""
        return self._sketch(
            [-gradient(p) if maximized else gradient(p) for p, maximized in self._known.items()]
        )

    def _notice(self) -> None:
        there = {p: bool(g.get("maximize", False)) for g in self._optimizer.param_groups for p in g["params"]}
        found = {p: m for p, m in there.items() if p in self._known or p.requires_grad or self._frozen_too}
        if all(parameter in there for parameter in self._known):
            self._known |= found
        else:
            self._known = found

    def _sketch(self, tensors: list[Tensor]) -> Tensor:
        dense = [shard(t.to_dense() if t.is_sparse else t) for t in tensors]
        return self._sketches([_real(t).reshape(1, -1) for t in dense], self.device)


def gradient(parameter: Tensor) -> Tensor:
    """Its gradient, without the graph that made it; zeros that take no memory where it has none."""
    if parameter.grad is None:
        return parameter.detach().new_zeros(()).expand(parameter.shape)
    return parameter.grad.detach()


def shard(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor that is spread over several (FSDP), else all of it."""
    to_local = getattr(tensor, "to_local", None)  # of a DTensor, whose import would take seconds
    return tensor if to_local is None else to_local()


def _real(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
