"""Steps for every coordinate, learned by gradient descent through unrolled runs (Andrychowicz et al., 1606.04474).

Where :class:`rl_lr.Policy` sets the one rate of a run by reinforcement learning, a
:class:`CoordinatePolicy` is told the gradient of a weight and says by how much that weight moves.
"""

from rl_lr.coordinate.optimizer import LearnedOptimizer
from rl_lr.coordinate.policy import CoordinatePolicy

__all__ = ["CoordinatePolicy", "LearnedOptimizer"]
