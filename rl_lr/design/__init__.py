"""Networks that design networks: spaces of architectures and cells, agents that search them, and what judges them."""

from rl_lr.design.architecture import Architecture, LayerSpace
from rl_lr.design.cells import Cell, CellSpace

__all__ = ["Architecture", "Cell", "CellSpace", "LayerSpace"]
