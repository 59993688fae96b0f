"""The problems of the paper: random quadratics, and a small sigmoid MLP on images of digits."""

import gzip
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from rl_lr.optimizers import CENTRES, OptimizerSpec
from rl_lr.tasks.networks import mlp
from rl_lr.tasks.real import digits
from rl_lr.tasks.tensors import TensorTask, cross_entropy


class Residual(nn.Module):
    """``Wθ - y`` with θ to be learned; every one is a problem of its own: W, y and the start of θ are drawn anew.

    All are standard normal, as in the paper (section 3.1).

    Args:
        size: of θ and y.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("w", torch.randn(size, size))
        self.register_buffer("y", torch.randn(size))
        self.theta = nn.Parameter(torch.randn(size))

    def forward(self, _: Tensor) -> Tensor:
        """``[size]``; there are no rows to look at."""
        residual: Tensor = self.get_buffer("w") @ self.theta - self.get_buffer("y")
        return residual


def quadratics(size: int = 10) -> TensorTask:
    """Minimise ‖Wθ - y‖²: another problem under every seed, and nothing random in its steps."""
    spec = OptimizerSpec("sgd", lr=CENTRES["sgd"])
    return TensorTask("quadratics", spec, 1, partial(Residual, size), (torch.zeros(1, 1),), _squared_norm)


def _squared_norm(residual: Tensor, _: Tensor) -> Tensor:
    return residual.square().sum()


def sigmoid_mlp() -> TensorTask:
    """The paper's network on the bundled digits: one hidden layer of 20 sigmoid units, batches of 128."""
    return digits_mlp()


def digits_mlp(
    width: int = 20, activation: Callable[[], nn.Module] = nn.Sigmoid, folder: Path | None = None
) -> TensorTask:
    """A classifier of digits with one hidden layer.

    Args:
        width: hidden units.
        activation: builds the nonlinearity.
        folder: where the files of MNIST lie; None for the 8×8 images that come with scikit-learn.
    """
    x, y, held_x, held_y = digits() if folder is None else mnist(folder)
    x, held_x = x.flatten(1), held_x.flatten(1)
    factory = partial(mlp, (x.shape[1], width, 10), activation)
    name = f"{'digits' if folder is None else 'mnist'}-{activation().__class__.__name__.lower()}-mlp-{width}"
    spec = OptimizerSpec("adam", lr=CENTRES["adam"])
    return TensorTask(name, spec, 128, factory, (x, y), cross_entropy, (held_x, held_y))


def mnist(folder: Path) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """MNIST from its four files, gzipped or not, where torchvision leaves them: ``folder/MNIST/raw``, or in it.

    Returns:
        Training images in [0, 1] and labels (60000), held-out images and labels (10000).

    Raises:
        ValueError: if a file is missing, or is not of MNIST.
    """
    inside = folder / "MNIST" / "raw"
    place = inside if inside.is_dir() else folder
    parts = []
    for part in ("train", "t10k"):
        images = _read_idx(place / f"{part}-images-idx3-ubyte", 3).float() / 255.0
        labels = _read_idx(place / f"{part}-labels-idx1-ubyte", 1).long()
        if len(images) != len(labels):
            raise ValueError(
                f"{place} has {len(images)} images and {len(labels)} labels of {part}: copy its files again."
            )
        parts += [images, labels]
    return parts[0], parts[1], parts[2], parts[3]


def _read_idx(path: Path, dims: int) -> Tensor:
    """Bytes in the IDX format: two zeros, type 8, the number of dimensions, each of them as a big-endian word."""
    zipped = path.with_name(f"{path.name}.gz")
    try:
        content = path.read_bytes() if path.is_file() else gzip.decompress(zipped.read_bytes())
        shape = np.frombuffer(content, ">u4", dims, offset=4)
        if content[:4] != bytes((0, 0, 8, dims)):
            raise ValueError("its first bytes are others")
        numbers = np.frombuffer(content, np.uint8, offset=4 + 4 * dims).reshape(shape)
    except (OSError, EOFError, ValueError) as error:
        reason = error.strerror if isinstance(error, FileNotFoundError) else error
        raise ValueError(
            f"{path} cannot be read as MNIST ({reason}): give the folder that torchvision.datasets.MNIST was told, "
            f"nothing is downloaded here."
        ) from error
    return torch.from_numpy(numbers.copy())
