"""The smallest training that is real, and what it means that two of them are the same."""

import torch

from rl_lr.config import DQNConfig, DrawConfig, PPOConfig, TrainConfig
from rl_lr.policy import Policy

TINY = TrainConfig(
    members=1,
    iterations=3,
    groups=2,
    group_size=8,
    ppo=PPOConfig(minibatch=448),
    dqn=DQNConfig(memory=2, minibatch=64, updates=20, target_every=5),
    validate_every=0,
    draw=DrawConfig(min_steps=60, max_steps=90),
)


def assert_same_weights(first: Policy, second: Policy) -> None:
    for ours, theirs in zip(first.layers, second.layers, strict=True):
        assert torch.equal(ours[0], theirs[0])
        assert torch.equal(ours[1], theirs[1])
