"""The engine: many runs of one architecture at once, as stacked tensors.

Weights of all runs lie in one buffer ``[runs, parameters]``; ``torch.func`` turns the task's own
module and loss into a batched one, and one fused update moves every run at its own rate. A run
is a pure function of (task, seed, rates): neighbours in the stack never touch it.
"""

import math
import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from rl_lr.batches import Batches
from rl_lr.graph import trace
from rl_lr.layers import StackedLayers
from rl_lr.memory import is_out_of_memory, too_large
from rl_lr.optimizers import StackedOptimizer
from rl_lr.tasks.task import Task

_PARTS = 4  # the many rows that results are measured on fit the cache for a part of the runs only


class Objective(nn.Module):
    """A task's network with its loss on top: rows in, scalar out."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task, self.model = task, task.model()

    def forward(self, *batch: Tensor) -> Tensor:
        """The task's loss, checked to be a scalar."""
        loss = self.task.loss(self.model, *batch)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            got = (
                f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            )
            raise ValueError(
                f"The loss of task {self.task.name!r} must be a scalar tensor, got {got}: reduce it, e.g. by .mean()."
            )
        return loss.reshape(())


def build_objective(task: Task, seed: int) -> Objective:
    """The task's network with the initial weights of run ``seed``; global RNG state is kept."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Objective(task)


def bytes_per_run(task: Task) -> int:
    """About how much memory one run's step touches: weights, optimizer, batch, activations.

    Raises:
        MemoryError: if there is not as much.
    """
    try:
        return _measure_bytes(task)
    except (MemoryError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise too_large(task) from error
        raise


def _measure_bytes(task: Task) -> int:
    objective, batches, saved = build_objective(task, 0), Batches(task, [0]), 0

    def keep(tensor: Tensor) -> Tensor:
        nonlocal saved
        saved += tensor.numel() * tensor.element_size()
        return tensor

    batch = [rows[0] for rows in batches.rows(batches.draw())]
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        objective(*batch)
    weights = sum(p.numel() * p.element_size() for p in objective.parameters())
    return 5 * weights + sum(t.numel() * t.element_size() for t in batch) + saved


def _untrained(objective: Objective) -> dict[str, Tensor]:
    """What a step does not train, by name: buffers, and parameters that are frozen."""
    frozen = {name: one.detach() for name, one in objective.named_parameters() if not one.requires_grad}
    return dict(objective.named_buffers()) | frozen


class Engine:
    """Runs of one task, advanced together.

    Methods: :meth:`step` and :meth:`evaluate` on the engine's own weights, :meth:`losses` as a
    function of any. A network that ``vmap`` cannot run is run one by one, which
    is said once.

    Attributes:
        parameters: of the task's :class:`Objective` that are not frozen, by name, ``[runs, ...]`` float32 each.
        runs: their first dimension.
        graph: the traced step, from the first step on; None if it is not traced.

    Args:
        task: what every run trains.
        seeds: one per run; sets initial weights and mini-batches.
        device: where the runs live.
        traced: replace the step by its traced graph (:mod:`rl_lr.graph`): takes a fraction of a
            second once, and saves a third to a half of every step of a small network.
    """

    def __init__(
        self, task: Task, seeds: Sequence[int], device: torch.device | str = "cpu", traced: bool = False
    ) -> None:
        self.task, self.runs = task, len(seeds)
        objectives = [build_objective(task, seed) for seed in seeds]
        self._objective = objectives[0]
        self.parameters = {
            name: torch.stack([o.get_parameter(name).detach() for o in objectives]).to(device)
            for name, parameter in self._objective.named_parameters()
            if parameter.requires_grad
        }
        self._buffers = {
            name: torch.stack([_untrained(o)[name] for o in objectives]).to(device)
            for name in _untrained(self._objective)
        }
        self._optimizer = StackedOptimizer(task.optimizer, list(self.parameters.values()))
        self._batches = Batches(task, seeds, device)
        self._fixed = self._batches.fixed()
        self.graph: Callable[..., tuple[Tensor, list[Tensor]]] | None = None
        self._stacks = self._can_stack()
        self._traced = traced and self._stacks

    @property
    def weights(self) -> Tensor:
        """A copy of the weights, ``[runs, parameters]``."""
        return torch.cat([p.reshape(self.runs, -1) for p in self.parameters.values()], dim=1)

    @property
    def state(self) -> list[Tensor]:
        """All that a step changes, ``[runs, ...]`` each: weights, running statistics, the optimizer's averages."""
        return [*self.parameters.values(), *self._buffers.values(), *self._optimizer.state]

    @property
    def iterates(self) -> list[Tensor]:
        """What averages are taken of, ``[runs, ...]`` each: weights, and running statistics that are not counts."""
        return [*self.parameters.values(), *(b for b in self._buffers.values() if b.is_floating_point())]

    def step(self, lr: Tensor) -> tuple[Tensor, list[Tensor]]:
        """One optimizer step of every run.

        Args:
            lr: ``[runs]``, the rate of each run, or ``[runs, tensors]``, of each of its parameters.

        Returns:
            The losses ``[runs]`` and the gradients that the step was made with, shaped like the
            parameters.
        """
        losses, gradients = self.gradients()
        self._optimizer.step(gradients, lr)
        return losses, gradients

    def gradients(self) -> tuple[Tensor, list[Tensor]]:
        """:meth:`step` without the update: what another optimizer of :attr:`parameters` needs."""
        batch = self.draw()
        if self._traced and self.graph is None:
            self.graph = self._trace(batch)
        return self.graph(*batch) if self.graph else self._differentiate(*batch)

    def draw(self) -> tuple[Tensor, ...]:
        """The next mini-batch of every run, ``[runs, batch, ...]`` each."""
        return self._batches.rows(self._batches.draw())

    def evaluate(self, rows: tuple[Tensor, ...] | None = None) -> Tensor:
        """Loss of every run on the fixed sample, in evaluation mode, ``[runs]``; always the same.

        Args:
            rows: other rows to take the loss on, ``[rows, ...]`` each.
        """
        self._objective.eval()
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # of networks that draw random numbers even now
            losses = self.losses(self.parameters, rows or self._fixed, shared=True)
        self._objective.train()
        return losses

    def calibrate(self, batches: int = 50) -> None:
        """Run mini-batches forward, so that running statistics fit weights that were exchanged."""
        if self._buffers:
            with torch.no_grad():
                for _ in range(batches):
                    self.losses(self.parameters, self.draw())

    def losses(
        self, parameters: dict[str, Tensor], batch: tuple[Tensor, ...], shared: bool = False
    ) -> Tensor:
        """Loss of every run at the given parameters, differentiable as often as the network is.

        Args:
            parameters: by name, ``[runs, ...]`` each.
            batch: rows of every run, ``[runs, batch, ...]`` each; if ``shared``, the same rows
                for all, ``[batch, ...]`` each.
            shared: whether the rows are the same.
        """
        if not self._stacks:
            return self._one_by_one(parameters, batch, shared)
        in_dims = (0, 0, None if shared else 0)
        few = math.ceil(self.runs / _PARTS) if shared and self._fixed[0].device.type == "cpu" else None
        stacked = vmap(self._loss, in_dims, randomness="different", chunk_size=few)
        losses: Tensor = stacked(parameters, self._buffers, batch)
        return losses

    def _one_by_one(self, parameters: dict[str, Tensor], batch: tuple[Tensor, ...], shared: bool) -> Tensor:
        """:meth:`losses` without ``vmap``."""
        losses = []
        for run in range(self.runs):
            own = {name: p[run] for name, p in parameters.items()}
            buffers = {name: b[run] for name, b in self._buffers.items()}
            rows = batch if shared else tuple(t[run] for t in batch)
            losses.append(functional_call(self._objective, (own, buffers), rows))
        return torch.stack(losses)

    def _can_stack(self) -> bool:
        """Try a few rows; what fails under ``vmap`` and runs without it is stepped one by one."""
        rows = tuple(t[: self.task.batch_size] for t in self._fixed)
        kept = {name: buffer.clone() for name, buffer in self._buffers.items()}
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            self._stacks = True
            try:
                self.losses(self.parameters, rows, shared=True)
            except (RuntimeError, ValueError, NotImplementedError) as error:
                self._one_by_one(self.parameters, rows, shared=True)  # or it is the task's own fault
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                warnings.warn(
                    f"The network of task {self.task.name!r} cannot be stacked ({reason}): its runs are stepped "
                    f"one by one, so {self.runs} of them take about {self.runs} times as long as one.",
                    stacklevel=3,
                )
                self._stacks = False
        self._restore(kept)
        return self._stacks

    def _differentiate(self, *batch: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Losses ``[runs]`` and the gradient of every parameter."""
        leaves = {name: p.detach().requires_grad_() for name, p in self.parameters.items()}
        losses = self.losses(leaves, batch)
        gradients = torch.autograd.grad(losses.sum(), list(leaves.values()))
        return losses.detach(), list(gradients)

    def _trace(self, batch: tuple[Tensor, ...]) -> Callable[..., tuple[Tensor, list[Tensor]]]:
        """The graph of :meth:`_differentiate`; buffers are as if nothing had run."""
        kept = {name: buffer.clone() for name, buffer in self._buffers.items()}
        graph = trace(self._differentiate, *batch)
        self._restore(kept)
        return graph

    def _restore(self, buffers: dict[str, Tensor]) -> None:
        for name, buffer in buffers.items():
            self._buffers[name].copy_(buffer)

    def _loss(
        self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], batch: tuple[Tensor, ...]
    ) -> Tensor:
        with StackedLayers(), sdpa_kernel(SDPBackend.MATH):  # fused attention has no rule for stacks
            loss: Tensor = functional_call(self._objective, (parameters, buffers), batch)
        return loss
