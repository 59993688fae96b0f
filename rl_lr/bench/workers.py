"""What a second worker process is worth."""

from rl_lr.bench.ratios import Ratio, paired, seconds
from rl_lr.config import DrawConfig, TrainConfig
from rl_lr.episodes import Order, Plan, play
from rl_lr.exploration import Gaussian
from rl_lr.policy import Policy
from rl_lr.tasks.families import TRAINING
from rl_lr.workers import Processes


def two_processes(repetitions: int) -> list[Ratio]:
    """Time of the episodes of an iteration of ``rl-lr train`` in one process, over that in two.

    The episodes last from a fraction of a second to several, so at the end of an iteration a
    process may have nothing left to do; the learner's own update is not in it.
    """
    config = TrainConfig(draw=DrawConfig(min_steps=250, max_steps=1000))
    plan = Plan(TRAINING, config.draw, config.control, config.group_size, config.seed)
    orders = [Order(Policy.load("default"), Gaussian(0.5), 0, group) for group in range(config.groups)]
    one, two = Processes(1), Processes(2)
    one.start(plan)
    two.start(plan)
    name = f"episodes of an iteration ({config.groups} groups of {config.group_size} runs), one process / two"
    try:
        ratio = paired(
            name,
            "≥ 1.7",
            lambda: seconds(lambda: one.map(play, orders)),
            lambda: seconds(lambda: two.map(play, orders)),
            repetitions,
        )
    finally:
        one.close()
        two.close()
    return [ratio]
