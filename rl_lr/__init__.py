"""rl-lr: a learning-rate scheduler controlled by reinforcement learning."""

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from rl_lr.policy import Policy, PolicyFileError
from rl_lr.scheduler import RLScheduler
from rl_lr.tasks import Task

if TYPE_CHECKING:
    from rl_lr.training import train

__version__ = version("rl-lr")
"""Of the installed package."""

__all__ = ["Policy", "PolicyFileError", "RLScheduler", "Task", "__version__", "train"]


def __getattr__(name: str) -> Any:
    """Import the training entry point, and with it stable-baselines3, only when it is asked for."""
    if name == "train":
        from rl_lr.training import train

        return train
    raise AttributeError(f"module 'rl_lr' has no attribute {name!r}")
