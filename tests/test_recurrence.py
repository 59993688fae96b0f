"""Recurrent layers written out equal torch's own, alone and stacked."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.utils.rnn import pack_padded_sequence

from rl_lr.layers import StackedLayers

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "lstm": lambda: nn.LSTM(4, 6),
    "deep lstm, both ways": lambda: nn.LSTM(4, 6, num_layers=2, bidirectional=True, batch_first=True),
    "lstm without bias": lambda: nn.LSTM(4, 6, bias=False),
    "gru": lambda: nn.GRU(4, 6, num_layers=2, batch_first=True),
    "rnn": lambda: nn.RNN(4, 6, bidirectional=True),
    "rectified rnn": lambda: nn.RNN(4, 6, nonlinearity="relu"),
}
CELLS: dict[str, Callable[[], nn.Module]] = {
    "lstm cell": lambda: nn.LSTMCell(4, 6),
    "gru cell": lambda: nn.GRUCell(4, 6),
    "rnn cell": lambda: nn.RNNCell(4, 6),
    "rectified rnn cell": lambda: nn.RNNCell(4, 6, nonlinearity="relu", bias=False),
}


def total(result: Any) -> Tensor:
    """A number that depends on every output and every final state."""
    if isinstance(result, Tensor):
        return (result * torch.arange(result.numel()).view(result.shape).cos()).sum()
    return sum((total(part) for part in result), torch.zeros(()))


@pytest.mark.parametrize("name", [*LAYERS, *CELLS])
def test_values_and_gradients_are_those_of_every_run(name: str) -> None:
    build = (LAYERS | CELLS)[name]
    networks = [build() for _ in range(3)]
    x = torch.randn(3, 5, 4) if name in CELLS else torch.randn(3, 7, 5, 4)
    names = [n for n, _ in networks[0].named_parameters()]
    stacked = {
        n: torch.stack([m.get_parameter(n).detach() for m in networks]).requires_grad_() for n in names
    }

    def run(parameters: dict[str, Tensor], rows: Tensor) -> Tensor:
        with StackedLayers():
            return total(functional_call(networks[0], parameters, rows))

    values = vmap(run)(stacked, x)
    gradients = torch.autograd.grad(values.sum(), list(stacked.values()))
    for index, network in enumerate(networks):
        value = total(network(x[index]))
        torch.testing.assert_close(values[index], value, rtol=1e-4, atol=1e-5)
        expected = torch.autograd.grad(value, list(network.parameters()))
        for ours, theirs in zip(gradients, expected, strict=True):
            torch.testing.assert_close(ours[index], theirs, rtol=1e-4, atol=1e-5)


def test_dropout_between_layers_acts_in_training_only() -> None:
    layer, x = nn.LSTM(4, 6, num_layers=2, dropout=0.5), torch.randn(7, 5, 4)
    with StackedLayers():
        assert not torch.equal(layer(x)[0], layer(x)[0])
        layer.eval()
        ours = layer(x)[0]
    torch.testing.assert_close(ours, layer(x)[0])


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
def test_packed_sequences_and_projections_are_left_to_torch() -> None:
    packed = pack_padded_sequence(torch.randn(3, 2, 4), torch.tensor([3, 2]))
    plain, projected = nn.LSTM(4, 6), nn.LSTM(4, 6, proj_size=2)
    x = torch.randn(3, 2, 4)
    with StackedLayers():
        ours = plain(packed)[0].data, projected(x)[0]
    torch.testing.assert_close(ours[0], plain(packed)[0].data)
    torch.testing.assert_close(ours[1], projected(x)[0])
