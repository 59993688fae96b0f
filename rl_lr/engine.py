"""The engine: many runs of one architecture at once, as stacked tensors.

Weights of all runs lie in one buffer ``[runs, parameters]``; ``torch.func`` turns the task's own
module and loss into a batched one, and one fused update moves every run at its own rate. A run
is a pure function of (task, seed, rates): neighbours in the stack never touch it.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from rl_lr.graph import trace
from rl_lr.optimizers import StackedOptimizer
from rl_lr.signals import sketch_stride
from rl_lr.tasks.task import Task

EVALUATION_ROWS = 512
"""Rows of the fixed sample on which a run's result is measured."""

_CHUNK = 64  # mini-batches drawn at once, so that the per-run generators cost little


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


class Batches:
    """Mini-batches of many runs: row indices drawn from each run's own generator.

    Args:
        task: whose rows are drawn.
        seeds: one per run; the same seed always draws the same rows.
        device: where the rows are wanted.
    """

    def __init__(self, task: Task, seeds: Sequence[int], device: torch.device | str = "cpu") -> None:
        self._data = tuple(tensor.to(device) for tensor in task.data())
        self._shape = (_CHUNK, task.batch_size)
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._drawn: list[Tensor] = []

    def draw(self) -> Tensor:
        """Indices of the next step's rows, ``[runs, batch]``."""
        if not self._drawn:
            count = len(self._data[0])
            chunks = [torch.randint(count, self._shape, generator=g) for g in self._generators]
            self._drawn = list(torch.stack(chunks, dim=1).to(self._data[0].device).unbind())[::-1]
        return self._drawn.pop()

    def rows(self, index: Tensor) -> tuple[Tensor, ...]:
        """The rows of an index of any shape: each tensor ``[*index.shape, ...]``."""
        flat = index.reshape(-1)  # index_select is several times faster than indexing by a matrix
        return tuple(t.index_select(0, flat).view(*index.shape, *t.shape[1:]) for t in self._data)

    def fixed(self) -> tuple[Tensor, ...]:
        """The sample on which results are measured, the same for every run: ``[rows, ...]``."""
        count = len(self._data[0])
        chosen = torch.linspace(0, count - 1, min(count, EVALUATION_ROWS)).round().long()
        return self.rows(chosen.to(self._data[0].device))


class Engine:
    """Runs of one task, advanced together; methods :meth:`step`, :meth:`sketch`, :meth:`evaluate`.

    Attributes:
        weights: ``[runs, parameters]`` float32, all parameters of a run one after the other.
        runs: rows of ``weights``.
        width: coordinates in a sketch.

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
        self.weights = torch.stack([_flatten(objective) for objective in objectives]).to(device)
        self._parameters = self._views(self.weights)
        self._gradient = torch.empty_like(self.weights)
        self._buffers = {
            name: torch.stack([o.get_buffer(name) for o in objectives]).to(device)
            for name, _ in self._objective.named_buffers()
        }
        self._optimizer = StackedOptimizer(task.optimizer, self.weights)
        self._batches = Batches(task, seeds, device)
        self._fixed = self._batches.fixed()
        self._stride = sketch_stride(self.weights.shape[1])
        self.width = self.sketch(self.weights).shape[1]
        self._traced = traced
        self._graph: Callable[..., tuple[Tensor, list[Tensor]]] | None = None

    def sketch(self, rows: Tensor) -> Tensor:
        """A copy of the strided sample of ``[runs, parameters]`` rows: ``[runs, width]``."""
        return rows[:, :: self._stride].clone()

    def step(self, lr: Tensor) -> tuple[Tensor, Tensor]:
        """One optimizer step of every run.

        Args:
            lr: ``[runs]``, the rate of each run.

        Returns:
            The losses ``[runs]`` and gradients ``[runs, parameters]`` that the step was made with;
            the gradients' memory is reused by the next step.
        """
        batch = self._batches.rows(self._batches.draw())
        if self._traced and self._graph is None:
            kept = {name: buffer.clone() for name, buffer in self._buffers.items()}
            self._graph = trace(self._differentiate, self._parameters, kept, batch)
        losses, gradients = (self._graph or self._differentiate)(self._parameters, self._buffers, batch)
        torch.cat(gradients, dim=1, out=self._gradient)
        self._optimizer.step(self._gradient, lr)
        return losses, self._gradient

    def evaluate(self) -> Tensor:
        """Loss of every run on the fixed sample, in evaluation mode, ``[runs]``."""
        self._objective.eval()
        with torch.no_grad():
            batched = vmap(self._loss, in_dims=(0, 0, None), randomness="different")
            losses: Tensor = batched(self._parameters, self._buffers, self._fixed)
        self._objective.train()
        return losses

    def _views(self, rows: Tensor) -> dict[str, Tensor]:
        """The parameters inside ``[runs, parameters]``: an update of the rows in place moves them."""
        named = dict(self._objective.named_parameters())
        pieces = torch.split(rows, [p.numel() for p in named.values()], dim=1)
        return {
            name: piece.view(self.runs, *p.shape)
            for (name, p), piece in zip(named.items(), pieces, strict=True)
        }

    def _differentiate(
        self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], batch: tuple[Tensor, ...]
    ) -> tuple[Tensor, list[Tensor]]:
        """Losses ``[runs]`` and the gradient of each parameter, ``[runs, size]``."""
        leaves = {name: p.detach().requires_grad_() for name, p in parameters.items()}
        losses = vmap(self._loss, randomness="different")(leaves, buffers, batch)
        gradients = torch.autograd.grad(losses.sum(), list(leaves.values()))
        return losses.detach(), [g.reshape(len(g), -1) for g in gradients]

    def _loss(
        self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], batch: tuple[Tensor, ...]
    ) -> Tensor:
        loss: Tensor = functional_call(self._objective, (parameters, buffers), batch)
        return loss


def _flatten(objective: Objective) -> Tensor:
    return torch.cat([p.detach().reshape(-1) for p in objective.parameters()])
