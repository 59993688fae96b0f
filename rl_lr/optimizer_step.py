"""Which optimizer makes the steps, and what a step leaves to be read: gradients, shards, whether it was made at all."""

import warnings

from torch import Tensor
from torch.optim import Optimizer

from rl_lr.supported import refuse_self_tuning

_SILENCE = 20  # steps without a report: fewer may be on purpose, as those of a critic


def bare(optimizer: Optimizer) -> Optimizer:
    """The innermost optimizer of a wrapper, which makes the steps: only its own hooks tell of every one.

    A wrapper has the very parameter groups of what is inside it: those of Accelerate, Fabric and Lightning, and
    optimizers around others, such as Lookahead (1907.08610) or sharpness-aware minimization (2010.01412).

    Raises:
        ValueError: if it is DeepSpeed's, whose engine makes the steps without calling it, chooses its own step sizes,
            or calls no hooks.
    """
    refuse_self_tuning(optimizer)  # also around an optimizer that does not
    if "DeepSpeedOptimizerWrapper" in {kind.__name__ for kind in type(optimizer).__mro__}:
        raise ValueError(
            "rl-lr cannot control an optimizer under DeepSpeed, whose engine makes the steps itself: train with DDP "
            "or FSDP."
        )
    for inner in vars(optimizer).values():
        if isinstance(inner, Optimizer) and inner.param_groups is optimizer.param_groups:
            return bare(inner)
    if not getattr(type(optimizer).step, "hooked", False):  # torch's mark, made by Optimizer.__init__
        raise ValueError(
            f"{type(optimizer).__name__} calls no step hooks, by which rl-lr is told of its steps: let its __init__ "
            f"call super().__init__(params, defaults)."
        )
    return optimizer


def skipped(optimizer: Optimizer) -> bool:
    """Whether a fused optimizer under a gradient scaler was called for a step that it did not make.

    Others are not called at all. On accelerators looking would cost a synchronisation: there the step
    counts, and its gradient, which is not finite, is left out of the signals.
    """
    overflow = getattr(optimizer, "found_inf", None)
    return isinstance(overflow, Tensor) and overflow.device.type == "cpu" and bool(overflow)


def check_told(steps: int, told: int) -> None:
    """Warn where an optimizer began with so many steps that nobody reported, as if time were counted in epochs."""
    if steps == _SILENCE and told == 0:
        warnings.warn(
            f"The optimizer made {steps} steps, and scheduler.step(loss) was not called yet: call it after every "
            f"optimizer.step(), not once an epoch, as steps in between do not count.",
            stacklevel=2,
        )


def gradient(parameter: Tensor) -> Tensor:
    """Its gradient; zeros that take no memory where it has none."""
    return parameter.new_zeros(()).expand(parameter.shape) if parameter.grad is None else parameter.grad


def shard(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor that is spread over several (FSDP), else all of it."""
    to_local = getattr(tensor, "to_local", None)  # of a DTensor, whose import would take seconds
    return tensor if to_local is None else to_local()
