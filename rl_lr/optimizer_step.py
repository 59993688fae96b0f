"""Which optimizer makes the steps, and what a step leaves to be read: gradients, shards, whether it was made at all."""

from torch import Tensor
from torch.optim import Optimizer

_WRAPPERS = {"AcceleratedOptimizer", "_FabricOptimizer", "LightningOptimizer"}
"""Classes that pass on what they are called for; by name, as importing them would take seconds."""


def bare(optimizer: Optimizer) -> Optimizer:
    """The optimizer inside the wrapper of Accelerate, Fabric or Lightning; only its own hooks tell of every step.

    Raises:
        ValueError: if it is DeepSpeed's, whose engine makes the steps without calling it.
    """
    kinds = {kind.__name__ for kind in type(optimizer).__mro__}
    if "DeepSpeedOptimizerWrapper" in kinds:
        raise ValueError(
            "rl-lr cannot control an optimizer under DeepSpeed, whose engine makes the steps itself: train with DDP "
            "or FSDP."
        )
    return bare(optimizer.optimizer) if kinds & _WRAPPERS else optimizer  # type: ignore[attr-defined]


def skipped(optimizer: Optimizer) -> bool:
    """Whether a fused optimizer under a gradient scaler was called for a step that it did not make.

    Others are not called at all. On accelerators looking would cost a synchronisation: there the step
    counts, and its gradient, which is not finite, is left out of the signals.
    """
    overflow = getattr(optimizer, "found_inf", None)
    return isinstance(overflow, Tensor) and overflow.device.type == "cpu" and bool(overflow)


def gradient(parameter: Tensor) -> Tensor:
    """Its gradient; zeros that take no memory where it has none."""
    return parameter.new_zeros(()).expand(parameter.shape) if parameter.grad is None else parameter.grad


def shard(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor that is spread over several (FSDP), else all of it."""
    to_local = getattr(tensor, "to_local", None)  # of a DTensor, whose import would take seconds
    return tensor if to_local is None else to_local()
