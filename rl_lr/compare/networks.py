"""Networks of the held-out suite, on real data: none of them is drawn in training.

Its families have pre-norm transformers, too, of other sizes and starts, over drawn tokens and vectors.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from rl_lr.tasks.networks import Residual
from rl_lr.tasks.sources import patches


def conv_net(norm: bool) -> nn.Sequential:
    """Two convolutions over 8×8 images, with torch's own batch normalisation or without."""

    def block(fan_in: int, fan_out: int) -> list[nn.Module]:
        return [
            nn.Conv2d(fan_in, fan_out, 3, padding=1),
            *([nn.BatchNorm2d(fan_out)] if norm else []),
            nn.ReLU(),
        ]

    return nn.Sequential(*block(1, 12), nn.MaxPool2d(2), *block(12, 24), nn.Flatten(), nn.Linear(24 * 16, 10))


def residual_net() -> nn.Sequential:
    """A small residual network (He et al., 1512.03385) for 8×8 images."""

    def block(channels: int) -> nn.Module:
        first, second = (nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in range(2))
        inner = nn.Sequential(first, nn.BatchNorm2d(channels), nn.ReLU(), second, nn.BatchNorm2d(channels))
        return nn.Sequential(Residual(inner), nn.ReLU())

    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        block(8),
        nn.AvgPool2d(2),
        block(8),
        nn.AvgPool2d(4),
        nn.Flatten(),
        nn.Linear(8, 10),
    )


class SelfAttention(nn.Module):
    """Multi-head self-attention, ``[batch, length, width]`` → same; causal or not."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """Softmax of scaled products, as in 1706.03762, section 3.2."""
        batch, length, width = x.shape
        q, k, v = (
            layer(x).view(batch, length, self.heads, -1).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        scores = q @ k.mT / math.sqrt(width / self.heads)
        if self.causal:
            future = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
            scores = scores.masked_fill(future, -math.inf)
        y: Tensor = self.out((scores.softmax(dim=-1) @ v).transpose(1, 2).reshape(x.shape))
        return y


def _encoder(width: int, heads: int, causal: bool, hidden: int) -> nn.Sequential:
    feed = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))
    return nn.Sequential(
        Residual(nn.Sequential(nn.LayerNorm(width), SelfAttention(width, heads, causal))),
        Residual(nn.Sequential(nn.LayerNorm(width), feed)),
    )


class CharTransformer(nn.Module):
    """Two causal layers of width 32 with four heads over characters, torch's own initial embeddings."""

    def __init__(self, vocabulary: int, length: int) -> None:
        super().__init__()
        self.embed, self.position = nn.Embedding(vocabulary, 32), nn.Embedding(length, 32)
        self.layers = nn.Sequential(*(_encoder(32, 4, True, 96) for _ in range(2)), nn.LayerNorm(32))
        self.head = nn.Linear(32, vocabulary, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of the next character, ``[batch, length]`` → ``[batch, length, vocabulary]``."""
        places = torch.arange(tokens.shape[1], device=tokens.device)
        logits: Tensor = self.head(self.layers(self.embed(tokens) + self.position(places)))
        return logits


class CharLSTM(nn.Module):
    """One LSTM layer of width 48 over characters."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.embed, self.lstm = nn.Embedding(vocabulary, 24), nn.LSTM(24, 48, batch_first=True)
        self.head = nn.Linear(48, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of the next character, ``[batch, length]`` → ``[batch, length, vocabulary]``."""
        states, _ = self.lstm(self.embed(tokens))
        logits: Tensor = self.head(states)
        return logits


class Patches(nn.Module):
    """8×8 images ``[batch, 1, 8, 8]`` as 16 patches of 2×2, ``[batch, 16, 4]``."""

    def forward(self, x: Tensor) -> Tensor:
        """Rows of patches from top to bottom."""
        return patches(x.movedim(1, -1))


class VisionTransformer(nn.Module):
    """A vision transformer (Dosovitskiy et al., 2010.11929) over 2×2 patches; the mean is read out."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Sequential(Patches(), nn.Linear(4, 32))
        self.position = nn.Parameter(0.02 * torch.randn(16, 32))
        self.layers = nn.Sequential(*(_encoder(32, 2, False, 64) for _ in range(2)), nn.LayerNorm(32))
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, ``[batch, 10]``."""
        logits: Tensor = self.head(self.layers(self.embed(x) + self.position).mean(dim=1))
        return logits


class Transposed(nn.Module):
    """A layer over the second dimension."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, length, width]`` → same."""
        y: Tensor = self.inner(x.mT).mT
        return y


def mixer() -> nn.Sequential:
    """MLP-mixer (Tolstikhin et al., 2105.01601) over 2×2 patches of 8×8 images."""

    def mlp(width: int, hidden: int) -> nn.Sequential:
        return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    blocks: list[nn.Module] = []
    for _ in range(2):
        blocks.append(Residual(nn.Sequential(nn.LayerNorm(32), Transposed(mlp(16, 32)))))
        blocks.append(Residual(nn.Sequential(nn.LayerNorm(32), mlp(32, 64))))
    return nn.Sequential(
        Patches(), nn.Linear(4, 32), *blocks, nn.LayerNorm(32), nn.Flatten(), nn.Linear(16 * 32, 10)
    )


def auto_encoder() -> nn.Sequential:
    """64 pixels to 8 numbers and back."""
    down = [nn.Linear(64, 48), nn.ELU(), nn.Linear(48, 8)]
    return nn.Sequential(*down, nn.Linear(8, 48), nn.ELU(), nn.Linear(48, 64), nn.Sigmoid())


class VariationalAutoEncoder(nn.Module):
    """64 pixels to 8 normal numbers and back (Kingma & Welling, 1312.6114); its output is the loss of each row."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 16))
        self.decode = nn.Sequential(nn.Linear(8, 48), nn.ReLU(), nn.Linear(48, 64))

    def forward(self, x: Tensor) -> Tensor:
        """Negative evidence bound with pixels of standard deviation 0.2, without its constant, ``[batch]``."""
        mean, log_variance = self.encode(x).chunk(2, dim=-1)
        code = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        error = (self.decode(code) - x).square().sum(dim=-1) / (2 * 0.2**2)
        divergence = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1.0).sum(dim=-1)
        bound: Tensor = error + divergence
        return bound


class Siren(nn.Module):
    """Coordinates to brightness with sines of frequency 30 (Sitzmann et al., 2006.09661, section 3.2)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise((2, 48, 48, 1)))
        with torch.no_grad():
            for index, layer in enumerate(self.layers):
                limit = 1.0 / 2 if index == 0 else math.sqrt(6.0 / 48) / 30.0
                layer.weight.uniform_(-limit, limit)  # type: ignore[operator]

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, 2]`` → ``[batch, 1]``."""
        *hidden, last = self.layers
        for layer in hidden:
            x = torch.sin(30.0 * layer(x))
        y: Tensor = last(x)
        return y


class Factors(nn.Module):
    """Ratings as products of factors, six for each person and thing."""

    def __init__(self, people: int, things: int) -> None:
        super().__init__()
        self.people, self.things = nn.Embedding(people, 6), nn.Embedding(things, 6)

    def forward(self, pairs: Tensor) -> Tensor:
        """``[batch, 2]`` indices → ``[batch, 1]``."""
        products: Tensor = self.people(pairs[:, 0]) * self.things(pairs[:, 1])
        return products.sum(dim=-1, keepdim=True)


class Adder(nn.Module):
    """A gated recurrent unit that reads two marked numbers of a sequence and gives their sum."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(2, 32, batch_first=True), nn.Linear(32, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, length, 2]`` → ``[batch, 1]``."""
        states, _ = self.gru(x)
        y: Tensor = self.head(states[:, -1])
        return y
