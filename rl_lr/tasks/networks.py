"""Small networks for the built-in tasks, from layers that stack well under ``torch.func.vmap``."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

ACTIVATIONS: tuple[type[nn.Module], ...] = (nn.ReLU, nn.Tanh, nn.GELU, nn.SiLU, nn.Sigmoid, nn.ELU)


class Sine(nn.Module):
    """``sin(ω x)``: the activation of coordinate networks (Sitzmann et al., 2006.09661)."""

    def __init__(self, frequency: float) -> None:
        super().__init__()
        self.frequency = frequency

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise."""
        return torch.sin(self.frequency * x)


class Residual(nn.Module):
    """``x + f(x)``."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """Same shape in and out."""
        y: Tensor = x + self.inner(x)
        return y


def mlp(
    sizes: Sequence[int], activation: Callable[[], nn.Module], norm: bool = False, residual: bool = False
) -> nn.Sequential:
    """Linear layers of the given sizes with activations between them.

    Args:
        sizes: inputs, hidden widths…, outputs.
        activation: builds the nonlinearity.
        norm: put a LayerNorm before each activation.
        residual: bypass hidden layers of equal width.
    """
    layers: list[nn.Module] = []
    for index, (fan_in, fan_out) in enumerate(pairwise(sizes[:-1])):
        block: list[nn.Module] = [nn.Linear(fan_in, fan_out)]
        block += [nn.LayerNorm(fan_out)] if norm else []
        block.append(activation())
        whole = nn.Sequential(*block)
        layers.append(Residual(whole) if residual and index and fan_in == fan_out else whole)
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


class BatchNorm(nn.Module):
    """Normalises channels over the batch, in evaluation as well (the sample is fixed and large)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Images ``[batch, channels, height, width]``."""
        var, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0, keepdim=True)
        scale, shift = self.weight[:, None, None], self.bias[:, None, None]
        return (x - mean) * (var + 1e-5).rsqrt() * scale + shift


def convnet(
    channels: Sequence[int],
    size: int,
    classes: int,
    activation: Callable[[], nn.Module],
    norm: bool,
    maximum: bool,
) -> nn.Sequential:
    """3×3 convolution, activation and 2×2 pooling for each step in ``channels``, then a linear layer."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(channels):
        layers.append(nn.Conv2d(fan_in, fan_out, 3, padding=1))
        layers += [BatchNorm(fan_out)] if norm else []
        layers += [activation(), nn.MaxPool2d(2) if maximum else nn.AvgPool2d(2)]
        size //= 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(size * size * channels[-1], classes))


class Attention(nn.Module):
    """Self-attention with plain matrix products (the fused kernel does not stack on CPUs)."""

    def __init__(self, width: int, heads: int, causal: bool = True) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.project, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """``[..., length, width]`` → same."""
        length, size = x.shape[-2], x.shape[-1] // self.heads
        future = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
        # Head by head, on slices as they lie: to compute them at once, each would have to be copied.
        slices = self.project(x).split(size, dim=-1)
        queries, keys, values = (slices[k : k + self.heads] for k in range(0, 3 * self.heads, self.heads))
        mixed = []
        for q, k, v in zip(queries, keys, values, strict=True):
            scores = q @ k.transpose(-1, -2) / math.sqrt(size)
            if self.causal:
                scores = scores.masked_fill(future, -math.inf)
            mixed.append(scores.softmax(dim=-1) @ v)
        y: Tensor = self.out(torch.cat(mixed, dim=-1))
        return y


def embedding(vocabulary: int, width: int) -> nn.Embedding:
    """Initialised as the linear layer of one-hot tokens would be: torch's own start is ten times larger."""
    embed = nn.Embedding(vocabulary, width)
    nn.init.uniform_(embed.weight, -(vocabulary**-0.5), vocabulary**-0.5)
    return embed


def blocks(width: int, depth: int, heads: int, causal: bool) -> nn.Sequential:
    """Pre-norm transformer blocks and a last normalisation."""
    blocks: list[nn.Module] = []
    for _ in range(depth):
        feed = mlp((width, 2 * width, width), nn.GELU)
        blocks += [
            Residual(nn.Sequential(nn.LayerNorm(width), Attention(width, heads, causal))),
            Residual(nn.Sequential(nn.LayerNorm(width), feed)),
        ]
    return nn.Sequential(*blocks, nn.LayerNorm(width))


class Encoder(nn.Module):
    """Pre-norm transformer over vectors, averaged: ``[batch, length, size]`` → ``[batch, outputs]``."""

    def __init__(self, size: int, length: int, width: int, depth: int, outputs: int) -> None:
        super().__init__()
        self.enter, self.position = nn.Linear(size, width), nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks, self.head = blocks(width, depth, heads=2, causal=False), nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of each row."""
        logits: Tensor = self.head(self.blocks(self.enter(x) + self.position).mean(dim=-2))
        return logits


class Transformer(nn.Module):
    """Pre-norm causal transformer over tokens: ``[..., length]`` → ``[..., length, vocabulary]``."""

    def __init__(self, vocabulary: int, length: int, width: int, depth: int, heads: int = 2) -> None:
        super().__init__()
        self.embed = embedding(vocabulary, width)
        self.position = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks, self.head = blocks(width, depth, heads, causal=True), nn.Linear(width, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of the token after each position."""
        logits: Tensor = self.head(self.blocks(self.embed(tokens) + self.position))
        return logits


def _gated(state: Tensor, new: Tensor) -> Tensor:
    """The minimal gated unit's next state, ``[..., width]``; ``new`` is what gate and candidate are made of."""
    gate, candidate = new.chunk(2, dim=-1)
    keep = torch.sigmoid(gate)
    return keep * state + (1.0 - keep) * torch.tanh(candidate)


class Recurrent(nn.Module):
    """Gated recurrence (minimal gated unit, 1603.09420) over tokens, unrolled step by step."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.embed = embedding(vocabulary, 2 * width)
        self.recur = nn.Linear(width, 2 * width)
        self.head = nn.Linear(width, vocabulary)
        self.width = width

    def forward(self, tokens: Tensor) -> Tensor:
        """``[..., length]`` → logits ``[..., length, vocabulary]``."""
        inputs = self.embed(tokens)
        state = torch.zeros_like(inputs[..., 0, : self.width])
        states = []
        for position in range(tokens.shape[-1]):
            state = _gated(state, inputs[..., position, :] + self.recur(state))
            states.append(state)
        logits: Tensor = self.head(torch.stack(states, dim=-2))
        return logits


class Reader(nn.Module):
    """Recurrence over vectors, minimal gated (1603.09420) or plain (Elman, 1990), whose last state is read out."""

    def __init__(self, size: int, width: int, outputs: int, gated: bool) -> None:
        super().__init__()
        self.enter, self.recur = (nn.Linear(fan_in, (1 + gated) * width) for fan_in in (size, width))
        self.head, self.width, self.gated = nn.Linear(width, outputs), width, gated

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, length, size]`` → ``[batch, outputs]``."""
        inputs = self.enter(x)
        state = torch.zeros_like(inputs[:, 0, : self.width])
        for position in range(x.shape[1]):
            new = inputs[:, position] + self.recur(state)
            state = _gated(state, new) if self.gated else torch.tanh(new)
        y: Tensor = self.head(state)
        return y
