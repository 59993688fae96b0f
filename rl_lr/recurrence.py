"""Recurrent layers written out step by step, because torch's fused ones have no rule for stacks.

Formulas, gate order and layout of the weights are those of ``torch.nn.LSTM``, ``GRU`` and
``RNN``; all inputs of a sequence are multiplied at once, only the recurrence goes step by step.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

State = tuple[Tensor, ...]
"""What a step hands on, its output first: (h, c) of an LSTM, (h,) of the others."""

Cell = Callable[[Tensor, State, Tensor, Tensor | None], State]
"""(input times its weights, state, recurrent weights, recurrent bias) → new state."""


def _lstm_step(inward: Tensor, state: State, weight: Tensor, bias: Tensor | None) -> State:
    hidden, memory = state
    enter, forget, candidate, leave = (inward + linear(hidden, weight, bias)).chunk(4, dim=-1)
    memory = forget.sigmoid() * memory + enter.sigmoid() * candidate.tanh()
    return leave.sigmoid() * memory.tanh(), memory


def _gru_step(inward: Tensor, state: State, weight: Tensor, bias: Tensor | None) -> State:
    (hidden,) = state
    reset_in, update_in, candidate_in = inward.chunk(3, dim=-1)
    reset, update, candidate = linear(hidden, weight, bias).chunk(3, dim=-1)
    keep = (update_in + update).sigmoid()
    new = (candidate_in + (reset_in + reset).sigmoid() * candidate).tanh()
    return (new + keep * (hidden - new),)


def _tanh_step(inward: Tensor, state: State, weight: Tensor, bias: Tensor | None) -> State:
    return ((inward + linear(state[0], weight, bias)).tanh(),)


def _relu_step(inward: Tensor, state: State, weight: Tensor, bias: Tensor | None) -> State:
    return ((inward + linear(state[0], weight, bias)).relu(),)


def _direction(
    step: Cell, x: Tensor, state: State, weights: Sequence[Tensor], backward: bool
) -> tuple[Tensor, State]:
    """One layer in one direction over ``x [length, ..., features]``: outputs and the last state."""
    own, recurrent, *biases = weights
    own_bias, bias = biases or (None, None)
    outputs = []
    inward = linear(x, own, own_bias)
    for position in reversed(range(len(x))) if backward else range(len(x)):
        state = step(inward[position], state, recurrent, bias)
        outputs.append(state[0])
    return torch.stack(outputs[::-1] if backward else outputs), state


def _sequence(step: Cell, hidden: Callable[[Any], State]) -> Callable[..., tuple[Tensor, ...] | None]:
    """``torch.lstm`` and its like over a padded batch, from the step of their cell."""

    def layer(
        x: Tensor,
        hx: Any,
        params: Any,
        has_biases: Any,
        num_layers: int = 1,
        dropout: float = 0.0,
        train: bool = True,
        bidirectional: bool = False,
        batch_first: bool = False,
    ) -> tuple[Tensor, ...] | None:
        directions, per_direction = 2 if bidirectional else 1, 4 if has_biases is True else 2
        if not isinstance(has_biases, bool) or len(params) != num_layers * directions * per_direction:
            return None  # packed sequences, projections
        x = x.transpose(0, 1) if batch_first else x
        starts = [s.unbind(0) for s in hidden(hx)]
        last: list[State] = []
        for depth in range(num_layers):
            if depth and dropout and train:
                x = torch.dropout(x, dropout, train)
            outputs = []
            for direction in range(directions):
                index = depth * directions + direction
                weights = params[index * per_direction : (index + 1) * per_direction]
                start = tuple(s[index] for s in starts)
                output, end = _direction(step, x, start, weights, backward=direction == 1)
                outputs.append(output)
                last.append(end)
            x = torch.cat(outputs, dim=-1)
        ends = tuple(torch.stack(parts) for parts in zip(*last, strict=True))
        return (x.transpose(0, 1) if batch_first else x, *ends)

    return layer


def _cell(step: Cell, hidden: Callable[[Any], State]) -> Callable[..., Tensor | State]:
    """``torch.lstm_cell`` and its like."""

    def layer(
        x: Tensor,
        hx: Any,
        w_ih: Tensor,
        w_hh: Tensor,
        b_ih: Tensor | None = None,
        b_hh: Tensor | None = None,
    ) -> Tensor | State:
        state = step(linear(x, w_ih, b_ih), hidden(hx), w_hh, b_hh)
        return state if len(state) > 1 else state[0]

    return layer


def _alone(hx: Tensor) -> State:
    return (hx,)


RECURRENT: dict[Any, Callable[..., Any]] = {
    torch.lstm: _sequence(_lstm_step, tuple),
    torch.gru: _sequence(_gru_step, _alone),
    torch.rnn_tanh: _sequence(_tanh_step, _alone),
    torch.rnn_relu: _sequence(_relu_step, _alone),
    torch.lstm_cell: _cell(_lstm_step, tuple),
    torch.gru_cell: _cell(_gru_step, _alone),
    torch.rnn_tanh_cell: _cell(_tanh_step, _alone),
    torch.rnn_relu_cell: _cell(_relu_step, _alone),
}
"""What answers instead of each of torch's functions; None where it does not apply."""
