"""rl-lr: a learning-rate scheduler controlled by reinforcement learning."""

from importlib.metadata import version

from rl_lr.policy import Policy, PolicyFileError
from rl_lr.scheduler import RLScheduler
from rl_lr.tasks.task import Task

__version__ = version("rl-lr")
__all__ = ["Policy", "PolicyFileError", "RLScheduler", "Task", "__version__"]
