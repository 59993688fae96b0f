"""A training that begins from a policy: which may, under what settings, and which result is kept."""

from collections.abc import Sequence
from dataclasses import replace

from rl_lr.config import TrainConfig
from rl_lr.policy import Policy


def starting_point(start: "str | Policy | None", config: TrainConfig) -> tuple[Policy | None, TrainConfig]:
    """The policy that a training begins from, and the settings that follow from it.

    Its sizes and control constants are the policy's, and it has one member.

    Raises:
        PolicyFileError: if it cannot be loaded.
        ValueError: if PPO cannot begin from it.
    """
    if start is None:
        return None, config
    policy = start if isinstance(start, Policy) else Policy.load(start)
    if config.agent != "ppo" or policy.choices:
        raise ValueError(
            f"Only PPO begins from a policy, and only from one that gives any action: {policy.name!r} under agent "
            f"{config.agent!r} does not fit; begin from nothing, or from 'default' with agent 'ppo'."
        )
    if not config.validate_every:
        raise ValueError(
            "A training that begins from a policy keeps the best that it measures, and validate_every is 0: give the "
            "iterations between measurements."
        )
    if config.lift:
        raise ValueError(
            f"lift is {config.lift}, and a training that begins from a policy keeps what it measured: leave lift at 0."
        )
    hidden = tuple(weight.shape[0] for weight, _ in policy.layers[:-1])
    return policy, replace(config, members=1, hidden=hidden, control=policy.control)


def best_policy(candidates: Sequence[Policy], name: str) -> Policy:
    """The candidate with the lowest regret on the runs kept apart; the earlier one of two alike.

    Args:
        candidates: in order; those that were not measured are left out, and at least one was.
        name: what the result is called.
    """
    measured = [one for one in candidates if one.provenance.get("validation")]
    best = min(measured, key=lambda one: one.provenance["validation"]["regret_to_best_rate"])
    return replace(best, name=name)
