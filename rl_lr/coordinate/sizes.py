"""What an unroll keeps in memory until the gradient has come back through it."""

import torch
from torch import Tensor

from rl_lr.coordinate.config import UnrollConfig
from rl_lr.coordinate.network import CoordinateNetwork
from rl_lr.engine import build_objective, bytes_per_run
from rl_lr.tasks.task import Task

_SAMPLE = 64  # coordinates that the cells are measured on


def affordable(task: Task, network: CoordinateNetwork, config: UnrollConfig) -> int:
    """Steps of a task's runs that fit into ``max_bytes`` together.

    Raises:
        MemoryError: if not even one does.
    """
    coordinates = sum(p.numel() for p in build_objective(task, 0).parameters())
    step = config.group_size * coordinates * _bytes_per_coordinate(network)
    if config.second_order:
        step += 2 * config.group_size * bytes_per_run(task)
    if step > config.max_bytes:
        raise MemoryError(
            f"One step of {config.group_size} runs of task {task.name!r}, {coordinates} weights each, keeps about "
            f"{step / 1e9:.3g} GB, and max_bytes allows {config.max_bytes / 1e9:.3g}: lower group_size or raise max_bytes."
        )
    return int(config.max_bytes // step)


def _bytes_per_coordinate(network: CoordinateNetwork) -> float:
    """What the cells keep of a coordinate and step, by what autograd saves; each tensor counts once."""
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(torch.ones(_SAMPLE), network.start(_SAMPLE))
    weights = {p.untyped_storage().data_ptr() for p in network.parameters()}
    sizes = (t.untyped_storage().nbytes() for place, t in kept.items() if place not in weights)
    return sum(sizes) / _SAMPLE
