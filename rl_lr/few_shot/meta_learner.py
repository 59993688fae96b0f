"""The meta-learner of Ravi & Larochelle: an LSTM whose cell state is the learner's weights."""

import torch
from torch import Tensor, nn

from rl_lr.few_shot.episodes import Episodes
from rl_lr.few_shot.learner import ConvNet, StackedLearner
from rl_lr.few_shot.start import Start
from rl_lr.log_sign import log_and_sign


class MetaLearner(nn.Module):
    """A learned start, and learned gates that make of every gradient a step.

    .. code-block:: text

        h_t = LSTM(x(∇_t), x(L_t); h_{t-1})            ∇_t, L_t: gradient and loss at θ_{t-1}
        i_t = σ(W_I · [h_t, θ_{t-1}, i_{t-1}] + b_I)   input gate: learning rate of this coordinate
        f_t = σ(W_F · [h_t, θ_{t-1}, f_{t-1}] + b_F)   forget gate: what is left of the weight
        θ_t = f_t ⊙ θ_{t-1} - i_t ⊙ ∇_t                θ_0 learned, see Start

    for every coordinate of the learner by itself, with the same W, b and LSTM for all of them, x the numbers as
    size and sign (:func:`rl_lr.log_sign.log_and_sign`), and L the loss on all labelled images of the episode
    (Ravi & Larochelle, ICLR 2017, sections 3.1 to 3.3). As there, ∇ and L are constants for the training of the
    meta-learner: no second derivatives.

    Args:
        network: the learner; its body is θ_0 before training.
        steps: T.
        hidden: width of h.
    """

    INPUT_BIAS, FORGET_BIAS = -4.6, 6.0  # rates of 0.01, and 0.25 % of the weight lost in a step

    def __init__(self, network: ConvNet, steps: int, hidden: int) -> None:
        super().__init__()
        self._network, self._steps = [network], steps  # in a list: its weights are not ours to train
        self.start = Start(network)
        self.lstm = nn.LSTMCell(4, hidden)
        self.input_gate, self.forget_gate = nn.Linear(hidden + 2, 1), nn.Linear(hidden + 2, 1)
        for gate, bias in ((self.input_gate, self.INPUT_BIAS), (self.forget_gate, self.FORGET_BIAS)):
            nn.init.normal_(gate.weight, std=0.01)
            nn.init.constant_(gate.bias, bias)

    def forward(self, episodes: Episodes) -> Tensor:
        """Logits of the queries, ``[episodes, ways · queries, ways]``."""
        self._network[0].accept(episodes)
        weights, _ = self.adapt(episodes)
        return StackedLearner(self._network[0]).logits(weights, episodes.query)

    def adapt(self, episodes: Episodes) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Learn every episode's labelled images.

        Returns:
            The weights after T steps, ``[episodes, parameters]``, and the gates (i, f) of each step, of that shape.
        """
        learner = StackedLearner(self._network[0])
        weights = self.start(len(episodes))
        rates, kept = torch.zeros_like(weights), torch.ones_like(weights)
        memory, gates = None, []
        for _ in range(self._steps):
            losses, gradients = learner.gradients(weights, episodes.support, episodes.support_labels)
            memory = self.lstm(_seen(gradients, losses), memory)
            rates = self._open(self.input_gate, memory[0], weights, rates)
            kept = self._open(self.forget_gate, memory[0], weights, kept)
            weights = kept * weights - rates * gradients
            gates.append((rates, kept))
        return weights, gates

    def _open(self, gate: nn.Module, h: Tensor, weights: Tensor, last: Tensor) -> Tensor:
        """How far a gate is open at every coordinate, ``[episodes, parameters]``."""
        inputs = torch.cat((h, weights.reshape(-1, 1), last.reshape(-1, 1)), dim=1)
        return torch.sigmoid(gate(inputs)).view_as(weights)


def _seen(gradients: Tensor, losses: Tensor) -> Tensor:
    """What the LSTM sees of each coordinate, ``[episodes · parameters, 4]``."""
    loss = log_and_sign(losses)[:, None].expand(-1, gradients.shape[1], -1)
    return torch.cat((log_and_sign(gradients), loss), dim=-1).view(-1, 4)
