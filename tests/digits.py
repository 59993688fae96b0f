"""A small network on scikit-learn's handwritten digits, for the tests of other people's trainers."""

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

GOOD_RATE = 3e-3
"""For AdamW; tests start at a hundredth and at a hundred times of it."""


def data() -> TensorDataset:
    """1797 pictures of 64 pixels, and what they show."""
    pictures, digits = load_digits(return_X_y=True)
    return TensorDataset(torch.as_tensor(pictures / 16.0, dtype=torch.float32), torch.as_tensor(digits))


def loader(seed: int = 0) -> "DataLoader[tuple[Tensor, ...]]":
    """Batches of 64, shuffled alike for the same seed."""
    return DataLoader(data(), batch_size=64, shuffle=True, generator=torch.Generator().manual_seed(seed))


def network() -> nn.Sequential:
    """Two layers, the same at every call."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def loss_on(model: nn.Module, batch: "list[Tensor] | tuple[Tensor, ...]") -> Tensor:
    """Cross entropy."""
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


@torch.no_grad()
def final_loss(model: nn.Module) -> float:
    """Over all pictures."""
    return float(loss_on(model, data().tensors))
