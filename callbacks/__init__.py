"""PyTorch Lightning callbacks: the learned policy in anybody's Trainer."""

from rl_lr.callbacks.learning_rate import RLLearningRate

__all__ = ["RLLearningRate"]
