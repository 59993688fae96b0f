"""The network that sets the step of a coordinate: a few LSTM cells, the same for every coordinate."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rl_lr.log_sign import log_and_sign

Memory = tuple[Tensor, ...]
"""What is remembered of every coordinate: h and c of each layer in turn, ``[coordinates, hidden]`` each."""


@dataclass(frozen=True)
class NetworkSpec:
    """What a coordinate-wise network is, beside its weights. The defaults are the paper's (section 3, appendix A)."""

    layers: int = 2
    """LSTM cells, one on the other."""
    hidden: int = 20
    """Width of each."""
    scale: float = 0.1
    """Factor on what comes out: the size of a step, in units of the weights."""
    p: float = 10.0
    """Nats: gradients below e⁻ᵖ count as small."""

    def __post_init__(self) -> None:
        """Refuse what is no network, or too large to be one of a coordinate."""
        for name, most in (("layers", 8), ("hidden", 256)):
            count = getattr(self, name)
            if type(count) is not int or not 1 <= count <= most:
                raise ValueError(
                    f"NetworkSpec.{name} is {count!r}: it must be a whole number from 1 to {most}."
                )
        for name in ("scale", "p"):
            value = getattr(self, name)
            if type(value) not in (int, float) or not 0.0 < value < 1e3:
                raise ValueError(f"NetworkSpec.{name} is {value!r}: it must be a positive number below 1000.")


class CoordinateNetwork(nn.Module):
    """Gradient of a coordinate in, its update out; what it has seen before it remembers.

    .. code-block:: text

        x = (log|g| / p, sign g), or for small g (-1, eᵖ g)
        hₗ, cₗ ← LSTM_l(hₗ₋₁, (hₗ, cₗ))        h₀ = x
        u = scale · (v·h_L + b)                   w ← w + u

    with g the gradient of a coordinate and w its weight (Andrychowicz et al., 1606.04474, section 2.1). Weights
    of the network are shared by all coordinates, and no coordinate sees another.

    Args:
        spec: its sizes.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.spec = spec
        widths = [2, *[spec.hidden] * spec.layers]
        self.cells = nn.ModuleList(nn.LSTMCell(width, spec.hidden) for width in widths[:-1])
        self.head = nn.Linear(spec.hidden, 1)

    def start(self, coordinates: int, device: torch.device | str = "cpu") -> Memory:
        """Nothing is remembered yet."""
        empty = torch.zeros(coordinates, self.spec.hidden, device=device)
        return tuple(empty.clone() for _ in range(2 * self.spec.layers))

    def forward(self, gradient: Tensor, memory: Memory, through: bool = False) -> tuple[Tensor, Memory]:
        """Updates ``[coordinates]``, and the memory after them.

        Args:
            gradient: ``[coordinates]`` float32, finite.
            memory: of the same coordinates.
            through: whether the derivative goes on into the gradient; in the paper it ends there.
        """
        x, after = log_and_sign(gradient, self.spec.p, through), []
        for layer, cell in enumerate(self.cells):
            x, c = cell(x, (memory[2 * layer], memory[2 * layer + 1]))
            after += [x, c]
        return self.spec.scale * self.head(x).squeeze(-1), tuple(after)
