"""PyTorch Lightning callbacks: the learned policy in anybody's Trainer, and charts of what it did."""

from rl_lr.callbacks.board import ConvergenceBoard
from rl_lr.callbacks.learning_rate import RLLearningRate

__all__ = ["ConvergenceBoard", "RLLearningRate"]
