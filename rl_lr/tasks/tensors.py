"""A task over tensors in memory, and the losses that the built-in tasks share."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from rl_lr.optimizers import OptimizerSpec

Criterion = Callable[..., Tensor]
"""(output of the network, target) → scalar loss."""


@dataclass(frozen=True)
class TensorTask:
    """A :class:`rl_lr.Task` made of a network factory, tensors and a criterion.

    The network sees the first tensor, the criterion its output and the last tensor; with one
    tensor, the network's input is also the target (an autoencoder, a language model).
    """

    name: str
    """What logs call it."""
    optimizer: OptimizerSpec
    """Which optimizer trains it, and its central rate."""
    batch_size: int
    """Rows of a mini-batch."""
    factory: Callable[[], nn.Module]
    """Builds a freshly initialised network."""
    tensors: tuple[Tensor, ...]
    """Training rows."""
    criterion: Criterion
    """The loss of outputs against targets."""
    held_out: tuple[Tensor, ...] = ()
    """Rows that no run trains on; empty if there are none."""

    def model(self) -> nn.Module:
        """A freshly initialised network."""
        return self.factory()

    def data(self) -> tuple[Tensor, ...]:
        """The training rows."""
        return self.tensors

    def loss(self, model: nn.Module, *batch: Tensor) -> Tensor:
        """The criterion on a batch."""
        return self.criterion(model(batch[0]), batch[-1])


Parts = tuple[Callable[[], nn.Module], tuple[Tensor, ...], Criterion]
"""Network factory, training rows, criterion."""


def tensor_task(
    optimizer: OptimizerSpec, batch_size: int, held_out: tuple[Tensor, ...] = ()
) -> Callable[[Callable[[], Parts]], TensorTask]:
    """Turn a function that gives network factory, rows and criterion into a task of its name.

    It is called once, at its definition::

        @tensor_task(OptimizerSpec("adamw", lr=3e-3), batch_size=16)
        def noise():
            rows = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
            return lambda: nn.Linear(8, 8), (rows,), squared_error

    Args:
        optimizer: which trains it, and the rate that a person would start from.
        batch_size: rows of a mini-batch.
        held_out: rows that no run trains on, as the training rows.

    Raises:
        TypeError: at the definition, if the function gives anything else.
    """

    def made(function: Callable[[], Parts]) -> TensorTask:
        name = function.__name__.replace("_", "-")
        parts: object = function()
        if not (isinstance(parts, tuple) and len(parts) == 3 and isinstance(parts[1], tuple)):
            raise TypeError(
                f"The function of task {name!r} gave {type(parts).__name__}: return the network factory, a tuple of "
                f"tensors, and the criterion, which takes the network's output and the last tensor."
            )
        factory, rows, criterion = parts
        return TensorTask(name, optimizer, batch_size, factory, rows, criterion, held_out)

    return made


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy in nats, ``logits [..., classes]`` against integer ``target [...]``.

    The value of ``torch.nn.functional.cross_entropy``, written out: its kernel is several times
    slower than these passes over the few classes of stacked small networks.
    """
    shifted = logits - logits.detach().amax(dim=-1, keepdim=True)
    chosen = shifted.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    return (shifted.exp().sum(dim=-1).log() - chosen).mean()


def squared_error(output: Tensor, target: Tensor) -> Tensor:
    """Mean squared error."""
    return (output - target).square().mean()


def own_loss(loss: Tensor, _: Tensor) -> Tensor:
    """Mean loss of a network whose output is the loss of each row."""
    return loss.mean()


def next_token(logits: Tensor, tokens: Tensor) -> Tensor:
    """Cross-entropy of predicting each token from those before it, ``tokens [..., length]``."""
    return cross_entropy(logits[..., :-1, :], tokens[..., 1:])
