"""Callbacks: the learned policy in anybody's Trainer, and charts of what it did."""

from typing import TYPE_CHECKING, Any

from rl_lr.callbacks.board import ConvergenceBoard
from rl_lr.callbacks.learning_rate import RLLearningRate

if TYPE_CHECKING:
    from rl_lr.callbacks.hugging_face import RLLearningRateHF

__all__ = ["ConvergenceBoard", "RLLearningRate", "RLLearningRateHF"]


def __getattr__(name: str) -> Any:
    """Import the callback for Hugging Face, and with it transformers, only when it is asked for."""
    if name == "RLLearningRateHF":
        from rl_lr.callbacks.hugging_face import RLLearningRateHF

        return RLLearningRateHF
    raise AttributeError(f"module 'rl_lr.callbacks' has no attribute {name!r}")
