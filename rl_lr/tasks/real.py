"""Tasks on real data that need no network: scikit-learn's bundled sets, and Python's own source."""

import sysconfig
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from rl_lr.optimizers import OptimizerSpec
from rl_lr.tasks import networks
from rl_lr.tasks.tensors import TensorTask, cross_entropy, next_token, squared_error

TEXT_MODULES = ("argparse.py", "ast.py", "inspect.py", "pathlib.py", "subprocess.py", "typing.py")
"""Standard-library files whose source serves as text."""


@cache
def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """scikit-learn's 1797 handwritten digits: images ``[n, 8, 8]`` in [0, 1] and labels.

    Returns:
        Training images and labels (1437), held-out images and labels (360), shuffled once.
    """
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    images = torch.from_numpy(x[order].astype(np.float32) / 16.0).view(-1, 8, 8)
    labels = torch.from_numpy(y[order].astype(np.int64))
    return images[:1437], labels[:1437], images[1437:], labels[1437:]


@cache
def source_text(length: int) -> tuple[Tensor, Tensor, int]:
    """Characters of standard-library source, in rows of ``length``.

    Returns:
        Training rows ``[n, length]``, held-out rows (the last tenth of each file), and the
        size of the vocabulary; rare characters share one token.
    """
    library = Path(sysconfig.get_paths()["stdlib"])
    texts = [(library / name).read_text(encoding="utf-8") for name in TEXT_MODULES]
    letters = [chr(code) for code in range(32, 127)] + ["\n"]
    index = {letter: position + 1 for position, letter in enumerate(letters)}
    train, held_out = [], []
    for text in texts:
        codes = torch.tensor([index.get(letter, 0) for letter in text])
        rows = codes[: len(codes) // length * length].view(-1, length)
        cut = len(rows) * 9 // 10
        train.append(rows[:cut])
        held_out.append(rows[cut:])
    return torch.cat(train), torch.cat(held_out), len(letters) + 1


def _digits(name: str, factory: Callable[[], nn.Module], spec: OptimizerSpec, flat: bool) -> TensorTask:
    x, y, held_x, held_y = digits()
    shape = (-1, 64) if flat else (-1, 1, 8, 8)
    held_out = (held_x.reshape(shape), held_y)
    return TensorTask(name, spec, 32, factory, (x.reshape(shape), y), cross_entropy, held_out)


def _digits_linear() -> TensorTask:
    return _digits("digits-linear", partial(nn.Linear, 64, 10), OptimizerSpec("sgd", lr=0.1), flat=True)


def _digits_mlp() -> TensorTask:
    factory = partial(networks.mlp, (64, 32, 10), nn.ReLU)
    return _digits("digits-mlp", factory, OptimizerSpec("adamw", lr=3e-3), flat=True)


def _digits_cnn() -> TensorTask:
    factory = partial(networks.convnet, (1, 8, 16), 8, 10, nn.ReLU, norm=False, maximum=True)
    return _digits("digits-cnn", factory, OptimizerSpec("adamw", lr=3e-3), flat=False)


def _diabetes() -> TensorTask:
    from sklearn.datasets import load_diabetes

    x, y = (torch.from_numpy(part.astype(np.float32)) for part in load_diabetes(return_X_y=True))
    x, y = (x - x.mean(0)) / x.std(0), (y[:, None] - y.mean()) / y.std()
    factory = partial(networks.mlp, (10, 32, 1), nn.Tanh)
    spec = OptimizerSpec("sgd", lr=0.05)
    return TensorTask(
        "diabetes-mlp", spec, 16, factory, (x[:354], y[:354]), squared_error, (x[354:], y[354:])
    )


def _source_transformer() -> TensorTask:
    train, held_out, vocabulary = source_text(32)
    factory = partial(networks.Transformer, vocabulary, 32, 32, 1)
    spec = OptimizerSpec("adamw", lr=3e-3)
    return TensorTask("source-transformer", spec, 16, factory, (train,), next_token, (held_out,))


REAL: dict[str, Callable[[], TensorTask]] = {
    "digits-linear": _digits_linear,
    "digits-mlp": _digits_mlp,
    "digits-cnn": _digits_cnn,
    "diabetes-mlp": _diabetes,
    "source-transformer": _source_transformer,
}
"""The tasks on real data, by the name that ``--task`` and ``gym.make(..., task=name)`` take."""


def real_task(name: str) -> TensorTask:
    """The task on real data called ``name``.

    Raises:
        ValueError: if there is none of that name.
    """
    if name not in REAL:
        raise ValueError(
            f"There is no task {name!r}: choose one of {', '.join(REAL)}, or pass a Task object."
        )
    return REAL[name]()
