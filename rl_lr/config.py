"""Settings: of the control law (stored in every policy file), of drawing runs, of training."""

import math
from dataclasses import dataclass, field, replace
from typing import Literal

MOST_CHOICES = 64
"""Actions that a policy may choose among."""


def _check(name: str, value: object, fitting: bool, wanted: str) -> None:
    if not fitting:
        raise ValueError(f"{name} is {value}: give {wanted}.")


@dataclass(frozen=True)
class ControlConfig:
    """How a policy's actions become learning rates. A policy is valid only for its own values."""

    step: float = 1.0
    """A: largest change of the offset by one decision, in nats."""
    warmup_step: float = 2.0
    """A inside the warm-up: a rate 100 times too low is left behind in half as many decisions."""
    bound: float = 12.0
    """B: largest absolute offset, in nats. From a rate 100 times too low, 8 nats no longer reach
    what the last, decaying part of a schedule asks for."""
    warmup_fraction: float = 0.05
    """Share of the run spent in exponential warm-up."""
    warmup_floor: float = 1e-3
    """s(0), where warm-up starts, as a fraction of the base rate."""
    warmup_decisions: int = 12
    """Decisions inside the warm-up."""
    decisions: int = 44
    """Decisions over the rest of the run."""
    guard_ratio: float = 3.0
    """The guard cuts when a loss exceeds its starting level by this many times its size."""
    guard_cut: float = math.log(10.0)
    """What one guard event takes off the offset, in nats."""

    def __post_init__(self) -> None:
        """Refuse constants under which no run could be controlled."""
        for name in ("step", "warmup_step", "bound", "warmup_floor", "guard_ratio", "guard_cut"):
            if not getattr(self, name) > 0:
                raise ValueError(
                    f"ControlConfig.{name} is {getattr(self, name)!r}: it must be a positive number."
                )
        if not (self.warmup_floor <= 1.0 and 0.0 <= self.warmup_fraction <= 1.0):
            raise ValueError(
                f"ControlConfig.warmup_floor and warmup_fraction are shares of 1, "
                f"got {self.warmup_floor} and {self.warmup_fraction}."
            )
        for name in ("warmup_decisions", "decisions"):
            count = getattr(self, name)
            if not isinstance(count, int) or count < 1:
                raise ValueError(f"ControlConfig.{name} is {count!r}: it must be a whole number, at least 1.")

    @property
    def unguarded(self) -> "ControlConfig":
        """The same law without its guard: what follows a schedule does so whatever happens."""
        return replace(self, guard_ratio=math.inf)

    @property
    def decision_count(self) -> int:
        """Decisions in a run of at least as many steps."""
        return self.warmup_decisions + self.decisions


@dataclass(frozen=True)
class DrawConfig:
    """How runs are drawn for training."""

    min_steps: int = 80
    """Shortest horizon, in optimizer steps."""
    max_steps: int = 6000
    """Longest horizon; lengths between are log-uniform."""
    max_bytes: float = 8e8
    """What the steps of a run may touch in memory, in bytes: tasks that are dear to step get shorter
    runs, their longest horizon still at least twelve times ``min_steps``."""
    misfactor: float = 100.0
    """Base rates are log-uniform from the task's central rate divided by this to times this."""
    other_schedules: float = 0.25
    """Share of groups whose base schedule is linear, WSD or constant instead of cosine."""

    def __post_init__(self) -> None:
        """Refuse what no run could be drawn by."""
        _check("DrawConfig.min_steps", self.min_steps, self.min_steps >= 1, "at least 1")
        longer = f"at least min_steps, which is {self.min_steps}"
        _check("DrawConfig.max_steps", self.max_steps, self.max_steps >= self.min_steps, longer)
        _check("DrawConfig.max_bytes", self.max_bytes, self.max_bytes > 0, "a positive number")
        _check("DrawConfig.misfactor", self.misfactor, 1.0 <= self.misfactor < math.inf, "at least 1")
        share = 0.0 <= self.other_schedules <= 1.0
        _check("DrawConfig.other_schedules", self.other_schedules, share, "a share of 1")


@dataclass(frozen=True)
class PPOConfig:
    """Proximal policy optimization (Schulman et al., 1707.06347) over continuous actions."""

    learning_rate: float = 2e-3
    """Step size at the start; it falls linearly to a tenth."""
    epochs: int = 10
    """Passes over an iteration's decisions."""
    minibatch: int = 512
    """Decisions in one gradient step. Runs cost far more than gradient steps: with fewer of them a policy
    hardly moves in an iteration."""
    clip: float = 0.4
    """Largest change of an action's probability in an iteration that is still rewarded, as a ratio to 1."""
    gae_lambda: float = 0.98
    """λ of generalised advantage estimation (Schulman et al., 1506.02438, eq. 16). Far below
    1 a policy learns to lower rates early, which always lowers the loss soon."""
    entropy: float = 0.0
    """Weight of the entropy bonus."""
    log_std: float = -0.7
    """Initial log standard deviation of the actions."""

    def __post_init__(self) -> None:
        """Refuse what nothing could be learned by."""
        _check("PPOConfig.learning_rate", self.learning_rate, self.learning_rate > 0, "a positive number")
        _check("PPOConfig.epochs", self.epochs, self.epochs >= 1, "at least 1")
        _check("PPOConfig.minibatch", self.minibatch, self.minibatch >= 2, "at least 2")
        _check("PPOConfig.clip", self.clip, self.clip > 0, "a positive number")
        _check("PPOConfig.gae_lambda", self.gae_lambda, 0.0 <= self.gae_lambda <= 1.0, "from 0 to 1")


@dataclass(frozen=True)
class DQNConfig:
    """Deep Q-learning (Mnih et al., Nature 2015) over a few actions, with returns of several decisions."""

    choices: tuple[float, ...] = (-1.0, -0.3, 0.0, 0.3, 1.0)
    """Actions, in units of the largest change of the offset."""
    learning_rate: float = 1e-3
    """Step size at the start; it falls linearly to a tenth."""
    memory: int = 8
    """Iterations whose decisions are replayed."""
    minibatch: int = 1024
    """Decisions in one gradient step."""
    updates: int = 800
    """Gradient steps in an iteration."""
    target_every: int = 100
    """Gradient steps between copies of the network into the one that sets the targets."""
    returns: int = 14
    """Decisions whose rewards are summed before a value is looked up."""
    epsilon: float = 0.05
    """Share of random actions in the second half of the training; it falls there from 1."""

    def __post_init__(self) -> None:
        """Refuse what nothing could be learned by, or no policy file would hold."""
        fitting = 1 <= len(self.choices) <= MOST_CHOICES and all(-1.0 <= one <= 1.0 for one in self.choices)
        _check("DQNConfig.choices", self.choices, fitting, f"1 to {MOST_CHOICES} numbers from -1 to 1")
        _check("DQNConfig.learning_rate", self.learning_rate, self.learning_rate > 0, "a positive number")
        for name in ("memory", "minibatch", "updates", "target_every", "returns"):
            count = getattr(self, name)
            _check(f"DQNConfig.{name}", count, count >= 1, "at least 1")
        _check("DQNConfig.epsilon", self.epsilon, 0.0 <= self.epsilon <= 1.0, "from 0 to 1")


@dataclass(frozen=True)
class StartConfig:
    """What takes the place of :class:`PPOConfig`'s where a training begins from a policy instead of from nothing."""

    learning_rate: float = 3e-4
    """Step size at the start; it falls linearly to a tenth."""
    log_std: float = -1.9
    """Log standard deviation of the actions: far less exploration than from nothing."""
    critic_first: int = 1
    """Iterations in which only the critic learns: before it knows anything, its advantages would spoil the
    policy."""


@dataclass(frozen=True)
class TrainConfig:
    """What a policy is trained with."""

    agent: Literal["ppo", "dqn"] = "ppo"
    """What learns."""
    members: int = 2
    """Policies trained one after the other, from networks and on runs of their own; the result acts
    by their mean. One, if the training begins from a policy."""
    lift: float = 0.0
    """What is added to the actions of the result between the warm-up and the last fifth of a run, in units of the
    largest change of the offset: exploring makes low rates prudent (``rl_lr.mean_policy.lifted``)."""
    iterations: int = 22
    """Of each member; one is a whole run of every environment, and then the agent learns from it."""
    groups: int = 48
    """Tasks in an iteration."""
    group_size: int = 12
    """Runs of each task, at base rates spread over the whole range."""
    averaged: bool = False
    """Whether a run is paid for the average of its weights rather than its last ones, which lets rates stay higher
    to the end; the policy is then best used with ``average=True``. Fits are paid for their last ones."""
    seed: int = 0
    """Of tasks, runs, network and exploration."""
    portable: bool = False
    """Whether the same policy is to come out on any x86-64 processor with AVX2: torch then keeps to kernels that round
    alike on all of them (``rl_lr.process.compute_portably``), which are slower on large matrices."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the policy's hidden layers; those of the policy that the training begins from, if any."""
    validate_every: int = 10
    """Iterations between measurements on runs kept apart; the last one is always measured. 0: never."""
    validation_groups: int = 15
    """Tasks, of ``group_size`` runs each, that are kept apart for measuring."""
    ppo: PPOConfig = field(default_factory=PPOConfig)
    """How PPO learns."""
    dqn: DQNConfig = field(default_factory=DQNConfig)
    """How DQN learns."""
    start: StartConfig = field(default_factory=StartConfig)
    """How PPO learns from a policy that is there already."""
    draw: DrawConfig = field(default_factory=DrawConfig)
    """How runs are drawn."""
    control: ControlConfig = field(default_factory=ControlConfig)
    """Constants of the control law."""

    def __post_init__(self) -> None:
        """Refuse what no training could be made of."""
        if self.members < 1 or self.iterations < 1:
            raise ValueError(
                f"TrainConfig.members is {self.members} and iterations {self.iterations}: give at least 1 of each."
            )
        if self.groups < 1 or self.group_size < 2:
            raise ValueError(
                f"TrainConfig.groups is {self.groups} and group_size {self.group_size}: give at least one group, "
                f"of at least two runs, which are paid by their standing among each other."
            )
        if self.validation_groups < 1:
            raise ValueError(
                f"TrainConfig.validation_groups is {self.validation_groups}: give at least 1; to measure nothing, set "
                f"validate_every to 0."
            )
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(
                f"TrainConfig.hidden is {self.hidden}: give the widths of one hidden layer or more."
            )
        _check("TrainConfig.seed", self.seed, 0 <= self.seed < 2**32, "from 0 to 2³² - 1")
        if self.draw.min_steps < self.control.decision_count:
            raise ValueError(
                f"DrawConfig.min_steps is {self.draw.min_steps}, shorter than the {self.control.decision_count} decisions "
                f"of a run: choose horizons of at least that many steps."
            )
        if self.agent not in ("ppo", "dqn"):
            raise ValueError(f"TrainConfig.agent is {self.agent!r}: choose 'ppo' or 'dqn'.")
        if not -1.0 <= self.lift <= 1.0:
            raise ValueError(
                f"TrainConfig.lift is {self.lift}: actions are from -1 to 1, so give a share of that."
            )
        if self.lift and self.agent == "dqn":
            raise ValueError(
                "TrainConfig.lift is for agent 'ppo': what chooses among a few actions is not lifted."
            )

    @property
    def total_iterations(self) -> int:
        """Of all members."""
        return self.members * self.iterations

    @property
    def runs(self) -> int:
        """Runs in one iteration."""
        return self.groups * self.group_size
