"""A recurrent controller trained by policy gradient, as NAS-RL designs networks (Zoph & Le, 1611.01578)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rl_lr.design.space import Design, Space, Taken


@dataclass(frozen=True)
class ReinforceConfig:
    """Constants of the agent."""

    width: int = 32
    """Units of the controller's recurrent layer; the paper's has two layers of 35."""
    learning_rate: float = 0.03
    """Adam's. The paper's is 6e-4 over 12 800 children."""
    epochs: int = 4
    """Gradient steps on each batch of children; one is REINFORCE itself, more of them PPO."""
    clip: float = 0.2
    """Largest change of a design's probability in a batch that is still rewarded, as a ratio to 1."""
    baseline: float = 0.8
    """Decay of the mean reward that rewards are compared with."""
    entropy: float = 0.03
    """Weight of the entropy bonus, per nat, beside rewards in units of their spread."""


class Reinforce:
    """A long short-term memory that says a design, action by action, from a softmax over those that are legal.

    .. code-block:: text

        maximise  mean over children of  min(ρ A, clip(ρ, 1 ± clip) A) + β H,   A = (R - b) / s
        b ← mean of rewards, decaying;  s ← their spread, decaying

    with ρ the ratio of a design's probability to that when it was said (Schulman et al., 1707.06347), R its
    reward and H the entropy of the controller's choices. With one epoch ρ is 1, and this is REINFORCE with
    an exponential moving average as its baseline (Williams, 1992), the rule of the paper.
    """

    def __init__(self, space: Space[Design], seed: int, config: ReinforceConfig | None = None) -> None:
        self._space, self._config = space, config or ReinforceConfig()
        self._generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._controller = _Controller(len(space.words), self._config.width)
        self._adam = torch.optim.Adam(self._controller.parameters(), self._config.learning_rate)
        self._mean = self._spread = 0.0
        self._told = 0

    def ask(self, count: int, done: float) -> list[Taken]:
        """Designs drawn from the controller."""
        taken: list[Taken] = [()] * count
        state = None
        with torch.no_grad():
            for _ in range(self._space.longest):
                logits, state = self._controller(_last(taken), state)
                masked = logits.masked_fill(~_mask(self._space, taken), -torch.inf)
                drawn = torch.multinomial(masked.softmax(-1), 1, generator=self._generator)[:, 0].tolist()
                taken = [
                    (*one, action) if self._space.legal(one) else one
                    for one, action in zip(taken, drawn, strict=True)
                ]
        return taken

    def tell(self, taken: Sequence[Taken], rewards: Sequence[float]) -> None:
        """Make what was worth more than usual more likely."""
        advantages = self._advantages(torch.tensor(rewards))
        before, config = None, self._config
        for _ in range(config.epochs):
            log_prob, entropy = self._say(taken)
            before = log_prob.detach() if before is None else before
            ratio = (log_prob - before).exp()
            clipped = ratio.clamp(1.0 - config.clip, 1.0 + config.clip)
            gain = torch.minimum(ratio * advantages, clipped * advantages) + config.entropy * entropy
            self._adam.zero_grad()
            (-gain.mean()).backward()
            self._adam.step()

    def _advantages(self, rewards: Tensor) -> Tensor:
        """Rewards over the decaying mean before them, in units of the decaying spread."""
        decay = self._config.baseline if self._told else 0.0
        mean = self._mean if self._told else float(rewards.mean())
        self._spread = decay * self._spread + (1.0 - decay) * float((rewards - mean).abs().mean())
        self._mean = decay * mean + (1.0 - decay) * float(rewards.mean())
        self._told += 1
        return (rewards - mean) / max(self._spread, 1e-3)

    def _say(self, taken: Sequence[Taken]) -> tuple[Tensor, Tensor]:
        """Log probability of each design, and the entropy of the choices on the way to it, ``[designs]`` each."""
        log_prob, entropy, state = torch.zeros(len(taken)), torch.zeros(len(taken)), None
        for place in range(max(map(len, taken))):
            so_far = [one[:place] for one in taken]
            logits, state = self._controller(_last(so_far), state)
            logs = logits.masked_fill(~_mask(self._space, so_far), -1e9).log_softmax(-1)
            said = torch.tensor([one[place] if place < len(one) else 0 for one in taken])
            going_on = torch.tensor([place < len(one) for one in taken])
            log_prob = log_prob + torch.where(going_on, logs.gather(1, said[:, None])[:, 0], 0.0)
            entropy = entropy + torch.where(going_on, -(logs.exp() * logs).sum(-1), 0.0)
        return log_prob, entropy


class _Controller(nn.Module):
    """Last action and state → logits of the next action."""

    def __init__(self, words: int, width: int) -> None:
        super().__init__()
        self.embed, self.recur = nn.Embedding(words + 1, width), nn.LSTMCell(width, width)
        self.head = nn.Linear(width, words)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # begin as random search does

    def forward(
        self, last: Tensor, state: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """``last [designs]``, 0 for the beginning → logits ``[designs, words]`` and the new state."""
        state = self.recur(self.embed(last), state)
        return self.head(state[0]), state


def _last(taken: Sequence[Taken]) -> Tensor:
    return torch.tensor([one[-1] + 1 if one else 0 for one in taken])


def _mask(space: Space[Design], taken: Sequence[Taken]) -> Tensor:
    """Legal actions, ``[designs, words]``; of complete designs all, which are not looked at."""
    mask = torch.zeros(len(taken), len(space.words), dtype=torch.bool)
    for row, one in enumerate(taken):
        mask[row, space.legal(one) or slice(None)] = True
    return mask
