"""What a Trainer may have that a learned rate cannot go with: refused, or warned of, before the first step."""

from typing import Literal, TypeVar, cast, get_args

from lightning_utilities.core.rank_zero import rank_zero_warn
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import BackboneFinetuning, StochasticWeightAveraging, WeightAveraging
from pytorch_lightning.utilities.exceptions import MisconfigurationException  # type: ignore[attr-defined]

from rl_lr.sketches import Granularity

Kind = TypeVar("Kind", bound=Callback)
OnConflict = Literal["raise", "override"]
"""What becomes of a schedule that would set the rate as well: refused, or ignored."""


def check_on_conflict(on_conflict: str) -> None:
    """Refuse an unknown choice."""
    if on_conflict not in get_args(OnConflict):
        raise ValueError(f"on_conflict is {on_conflict!r}: choose 'raise' or 'override'.")


def check_trainer(trainer: Trainer, on_conflict: str, granularity: Granularity) -> None:
    """Refuse strategies and schedulers that would set rates as well; warn of what will be ignored."""
    strategy = type(trainer.strategy).__name__
    if strategy.startswith("DeepSpeed"):
        raise MisconfigurationException(
            f"RLLearningRate cannot control an optimizer under {strategy}, whose engine makes the steps itself: use "
            f"another strategy, such as ddp or fsdp."
        )
    if trainer.lr_scheduler_configs and on_conflict == "raise":
        listed = ", ".join(type(config.scheduler).__name__ for config in trainer.lr_scheduler_configs)
        raise MisconfigurationException(
            f"configure_optimizers returns a learning-rate scheduler ({listed}) and RLLearningRate sets the "
            f"rate as well: return the optimizer alone, or pass on_conflict='override' to ignore {listed}."
        )
    if callbacks_of(trainer, StochasticWeightAveraging):
        rank_zero_warn(
            "StochasticWeightAveraging averages weights as it should, but its swa_lrs have no effect: "
            "RLLearningRate sets the rate at every step."
        )
    if callbacks_of(trainer, BackboneFinetuning) and granularity == "tensor":
        raise MisconfigurationException(
            "BackboneFinetuning writes the optimizer's parameter groups into checkpoints, and granularity='tensor' splits "
            "them, so that no fit could be resumed: use granularity='network'."
        )
    if callbacks_of(trainer, BackboneFinetuning):
        rank_zero_warn(
            "BackboneFinetuning thaws layers as it should, at its share of the base rate, but how it raises their rate "
            "later has no effect: RLLearningRate sets the rate at every step."
        )


def check_average(trainer: Trainer, averaging: int) -> None:
    """Refuse what averaged weights cannot go with.

    Args:
        trainer: of the fit.
        averaging: how many callbacks of ours average in it.
    """
    strategy = type(trainer.strategy).__name__
    others = [
        *callbacks_of(trainer, StochasticWeightAveraging),
        *callbacks_of(trainer, WeightAveraging),
    ]
    if others:
        raise MisconfigurationException(
            f"{type(others[0]).__name__} averages the weights, and so does RLLearningRate(average=True): leave one out."
        )
    if averaging > 1:
        raise MisconfigurationException(
            "Two RLLearningRate callbacks with average=True would average the same running statistics: let one of them "
            "control all optimizers."
        )
    if strategy.startswith(("FSDP", "ModelParallel")):
        raise MisconfigurationException(
            f"average=True cannot put averaged weights into checkpoints that {strategy} writes in parts: use ddp, or "
            f"leave it out."
        )


def callbacks_of(trainer: Trainer, kind: type[Kind]) -> list[Kind]:
    """The Trainer's callbacks of a kind; by name, as ``lightning`` and ``pytorch_lightning`` have each its own class."""
    present: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return [
        cast("Kind", one) for one in present if kind.__name__ in {base.__name__ for base in type(one).__mro__}
    ]
