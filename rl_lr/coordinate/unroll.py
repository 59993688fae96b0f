"""Runs under a coordinate-wise network, unrolled: their losses can be differentiated in the weights of the network.

In the paper gradients count as constants: what a network of theirs is told does not depend on what it said before
(section 2.1). Then the loss after step t depends on its weights φ only through the updates before,

.. code-block:: text

    dL(θₜ)/dφ = gₜ · Σ_{s<t} du_s/dφ        gₜ = ∇L(θₜ), a number

so that no graph goes through the runs themselves: the engine gives losses and gradients as for any optimizer, and only
the cells of the network are gone back through. The whole derivative needs those of the gradients (``second_order``).
"""

import torch
from torch import Tensor

from rl_lr.coordinate.network import CoordinateNetwork
from rl_lr.engine import Engine
from rl_lr.tasks.task import Task


class Runs:
    """Stacked runs that a network steps, all coordinates of all of them as one batch.

    Attributes:
        engine: their task; its weights move along.

    Args:
        engine: the runs, from where they are.
        network: what steps them.
        second_order: whether derivatives go through the gradients, too.
    """

    def __init__(self, engine: Engine, network: CoordinateNetwork, second_order: bool = False) -> None:
        self.engine, self._network, self._second_order = engine, network, second_order
        device = next(iter(engine.parameters.values())).device
        coordinates = sum(p[0].numel() for p in engine.parameters.values())
        self._memory = network.start(engine.runs * coordinates, device)
        self._moved = torch.zeros(engine.runs, coordinates, device=device)
        self._losses, self._gradients = self._feel()

    @property
    def losses(self) -> Tensor:
        """Of the mini-batch that the next step is made on, before it, ``[runs]``."""
        return self._losses.detach()

    def unroll(self, steps: int) -> Tensor:
        """Step on, and return the loss after each step, ``[steps, runs]``, each on a mini-batch of its own.

        Their derivative ends where the unroll began.
        """
        self._memory = tuple(part.detach() for part in self._memory)
        self._moved = self._moved.detach()
        self._gradients = self._gradients.detach()
        felt = []
        for _ in range(steps):
            updates, self._memory = self._network(
                self._gradients.reshape(-1), self._memory, self._second_order
            )
            self._move(updates.view_as(self._moved))
            self._losses, self._gradients = self._feel()
            felt.append(self._losses)
        return torch.stack(felt)

    def _move(self, updates: Tensor) -> None:
        """Add updates ``[runs, coordinates]`` to the weights of the engine, and to what has been moved so far."""
        self._moved = self._moved + updates
        for p, part in zip(self.engine.parameters.values(), self._parts(updates.detach()), strict=True):
            p.add_(part)

    def _feel(self) -> tuple[Tensor, Tensor]:
        """Losses ``[runs]`` and gradients ``[runs, coordinates]`` on the next mini-batch."""
        if self._second_order and torch.is_grad_enabled():
            return self._feel_twice()
        with torch.enable_grad():  # of the run, whoever differentiates in the network
            losses, gradients = self.engine.gradients()
        gradient = torch.cat([g.reshape(self.engine.runs, -1) for g in gradients], dim=1)
        moved = self._moved - self._moved.detach()  # zero, with the derivative of the updates
        return losses + (gradient * moved).sum(dim=1), gradient

    def _feel_twice(self) -> tuple[Tensor, Tensor]:
        """The same, differentiable through the gradients."""
        moved = self._parts(self._moved - self._moved.detach())
        parameters = {
            name: (p.detach() + part).requires_grad_()
            for (name, p), part in zip(self.engine.parameters.items(), moved, strict=True)
        }
        losses = self.engine.losses(parameters, self.engine.draw())
        gradients = torch.autograd.grad(losses.sum(), list(parameters.values()), create_graph=True)
        return losses, torch.cat([g.reshape(self.engine.runs, -1) for g in gradients], dim=1)

    def _parts(self, flat: Tensor) -> list[Tensor]:
        """``[runs, coordinates]`` cut into the shapes of the parameters."""
        shapes = [p.shape for p in self.engine.parameters.values()]
        sizes = [shape[1:].numel() for shape in shapes]
        return [part.view(shape) for part, shape in zip(flat.split(sizes, dim=1), shapes, strict=True)]


def check_twice_differentiable(task: Task) -> None:
    """Refuse a task whose gradients have no derivative of their own.

    Raises:
        ValueError: with what torch says.
    """
    engine = Engine(task, [0])
    parameters = {name: p.detach().requires_grad_() for name, p in engine.parameters.items()}
    leaves = list(parameters.values())
    try:
        losses = engine.losses(parameters, engine.draw())
        gradients = torch.autograd.grad(losses.sum(), leaves, create_graph=True)
        length = torch.stack([g.square().sum() for g in gradients]).sum()
        if length.requires_grad:
            length.backward()  # unlike grad(), it goes where nothing leads further, and finds what raises there
    except (RuntimeError, NotImplementedError) as error:
        raise _not_twice(task, str(error).splitlines()[0].rstrip(".")) from error
    if not all(leaf.grad.isfinite().all() for leaf in leaves if leaf.grad is not None):
        raise _not_twice(task, "second derivatives are not finite")


def _not_twice(task: Task, reason: str) -> ValueError:
    return ValueError(
        f"The loss of task {task.name!r} cannot be differentiated twice ({reason}): leave second_order off, which costs "
        f"little, or build the loss of operations that have second derivatives."
    )
