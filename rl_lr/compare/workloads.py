"""What a comparison runs: tasks with rows kept apart, at fixed horizons."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rl_lr.compare import networks
from rl_lr.optimizers import CENTRES, OptimizerSpec
from rl_lr.tasks.real import digits, source_text
from rl_lr.tasks.task import Fit, Task
from rl_lr.tasks.tensors import Criterion, TensorTask, cross_entropy, next_token, own_loss, squared_error


class TaskWithRowsApart(Task, Protocol):
    """A task that keeps rows apart."""

    @property
    def held_out(self) -> tuple[Tensor, ...]:
        """Rows that no run trains on."""
        ...


@dataclass(frozen=True)
class Workload:
    """A task at a horizon."""

    task: TaskWithRowsApart | Fit
    """What is trained."""
    steps: int
    """Horizon, in optimizer steps."""
    seeds: int
    """Runs from each base rate, which differ in initial weights and mini-batches."""

    @property
    def name(self) -> str:
        """As tables call it."""
        return f"{self.task.name}, {self.steps} steps"

    @property
    def stepped(self) -> TaskWithRowsApart:
        """The task, for arms that bring an optimizer of their own.

        Raises:
            TypeError: for a fit.
        """
        if isinstance(self.task, Fit):
            raise TypeError(f"{self.task.name!r} is a fit, and its optimizer is its module's own.")
        return self.task


def held_out() -> list[Workload]:
    """Fourteen networks that no policy was trained on or chosen by, on real data, at 500 and 2000 steps, and four at 10 000."""
    tasks = held_out_tasks()
    long = {"CNN with batch-norm", "SIREN", "autoencoder", "matrix factorisation"}
    usual = [Workload(task, steps, seeds=3) for steps in (500, 2000) for task in tasks]
    return usual + [Workload(task, 10_000, seeds=1) for task in tasks if task.name in long]


def held_out_tasks() -> list[TensorTask]:
    """The tasks of the held-out suite."""
    x, y, held_x, held_y = digits()
    images = (x[:, None], y), (held_x[:, None], held_y)
    rows = (x.flatten(1),), (held_x.flatten(1),)
    text, held_text, vocabulary = source_text(32)

    def transformer() -> nn.Module:
        return networks.CharTransformer(vocabulary, 32)

    def lstm() -> nn.Module:
        return networks.CharLSTM(vocabulary)

    def plain() -> nn.Module:
        return networks.conv_net(norm=False)

    def normalised() -> nn.Module:
        return networks.conv_net(norm=True)

    def factors() -> nn.Module:
        return networks.Factors(60, 60)

    language = (text,), (held_text,)
    table = [
        ("transformer on source", "adamw", 8, transformer, language, next_token),
        ("LSTM on source", "adam", 8, lstm, language, next_token),
        ("CNN", "sgd", 32, plain, images, cross_entropy),
        ("CNN with batch-norm", "adamw", 32, normalised, images, cross_entropy),
        ("residual net", "sgd", 16, networks.residual_net, images, cross_entropy),
        ("vision transformer", "adamw", 16, networks.VisionTransformer, images, cross_entropy),
        ("MLP-mixer", "adam", 16, networks.mixer, images, cross_entropy),
        ("autoencoder", "rmsprop", 32, networks.auto_encoder, rows, squared_error),
        ("VAE", "adam", 32, networks.VariationalAutoEncoder, rows, own_loss),
        ("SIREN", "adam", 128, networks.Siren, _picture(), squared_error),
        ("tabular regression", "rmsprop", 16, _tabular, _diabetes(), squared_error),
        ("linear model", "sgd", 32, _linear, _tumours(), cross_entropy),
        ("matrix factorisation", "adamw", 64, factors, _ratings(), squared_error),
        ("recurrent net, adding", "rmsprop", 16, networks.Adder, _additions(), squared_error),
    ]
    return [_task(*row) for row in table]


Rows = tuple[Tensor, ...]


def _task(
    name: str,
    kind: str,
    batch: int,
    factory: Callable[[], nn.Module],
    data: tuple[Rows, Rows],
    criterion: Criterion,
) -> TensorTask:
    spec = OptimizerSpec(kind, lr=CENTRES[kind], weight_decay=0.01 if kind == "adamw" else 0.0)  # type: ignore[arg-type]
    return TensorTask(name, spec, batch, factory, data[0], criterion, data[1])


def _tabular() -> nn.Module:
    return nn.Sequential(nn.Linear(10, 32), nn.SiLU(), nn.Linear(32, 32), nn.SiLU(), nn.Linear(32, 1))


def _linear() -> nn.Module:
    return nn.Linear(30, 2)


def parted(*columns: Tensor, share: float = 0.8) -> tuple[Rows, Rows]:
    """A share of the rows to train on, and those that are kept apart; always the same."""
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(columns[0])))
    cut = round(share * len(order))
    return tuple(c[order[:cut]] for c in columns), tuple(c[order[cut:]] for c in columns)


def _standardised(x: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(((x - x.mean(axis=0)) / x.std(axis=0)).astype(np.float32))


def _diabetes() -> tuple[Rows, Rows]:
    """scikit-learn's 442 patients: ten measurements, progress of the disease."""
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True)
    return parted(_standardised(x), _standardised(y[:, None]))


def _tumours() -> tuple[Rows, Rows]:
    """scikit-learn's 569 tumours: thirty measurements, two classes."""
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    return parted(_standardised(x), torch.from_numpy(y.astype(np.int64)))


@cache
def _picture() -> tuple[Rows, Rows]:
    """The brightness of a part of scikit-learn's sample photograph, by coordinates in [-1, 1]²."""
    from sklearn.datasets import load_sample_image

    grey = load_sample_image("china.jpg")[100:228:2, 200:328:2].mean(axis=-1) / 255.0
    line = torch.linspace(-1.0, 1.0, 64)
    places = torch.stack(torch.meshgrid(line, line, indexing="ij"), dim=-1).view(-1, 2)
    return parted(places, torch.from_numpy(grey.astype(np.float32)).view(-1, 1), share=0.9)


def _ratings() -> tuple[Rows, Rows]:
    """2000 noisy entries of a 60×60 matrix of rank 6."""
    rng = np.random.default_rng(0)  # not torch's: networks of seed 0 would be drawn from the same numbers
    people, things = rng.standard_normal((2, 60, 6), dtype=np.float32)
    pairs = rng.integers(60, size=(2000, 2))
    exact = (people[pairs[:, 0]] * things[pairs[:, 1]]).sum(axis=-1, keepdims=True)
    noisy = exact + 0.1 * rng.standard_normal((2000, 1), dtype=np.float32)
    return parted(torch.from_numpy(pairs), torch.from_numpy(noisy))


def _additions() -> tuple[Rows, Rows]:
    """The adding problem (Hochreiter & Schmidhuber, 1997): two of 20 numbers are marked."""
    rng = np.random.default_rng(0)
    numbers = rng.random((4000, 20), dtype=np.float32)
    marked = np.stack([rng.permutation(20)[:2] for _ in range(4000)])
    marks = np.zeros_like(numbers)
    np.put_along_axis(marks, marked, 1.0, axis=1)
    sums = np.take_along_axis(numbers, marked, axis=1).sum(axis=1, keepdims=True)
    return parted(torch.from_numpy(np.stack((numbers, marks), axis=-1)), torch.from_numpy(sums))
