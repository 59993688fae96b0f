"""Whether episodes fit into memory."""

import psutil
import torch
from torch import Tensor

from rl_lr.few_shot.config import FewShotConfig
from rl_lr.few_shot.learner import ConvNet, StackedLearner, flat


def check_room(colours: int, config: FewShotConfig) -> None:
    """Refuse episodes whose training would not fit into the memory that is free.

    Args:
        colours: channels of the images.
        config: sizes.

    Raises:
        MemoryError: in one sentence.
    """
    images = config.ways * (max(config.shots) * config.steps + config.train_queries)
    needed = config.batch * images * _bytes_per_image(colours, config)
    free = psutil.virtual_memory().available
    if needed > free:
        raise MemoryError(
            f"Training on {config.batch} episodes of {config.ways} ways, {max(config.shots)} shots and images of "
            f"{config.size}×{config.size} takes about {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free: lower "
            f"batch, ways, shots, size, steps or channels."
        )


def _bytes_per_image(colours: int, config: FewShotConfig) -> int:
    """What a forward pass of the learner keeps for the backward pass."""
    network, kept = ConvNet(colours, config.size, config.channels, config.blocks, config.ways), 0

    def keep(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += tensor.numel() * tensor.element_size()
        return tensor

    weights = flat(network)[None].requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        StackedLearner(network).logits(weights, torch.zeros(1, 1, colours, config.size, config.size))
    return kept
