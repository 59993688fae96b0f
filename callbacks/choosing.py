"""Which of a Trainer's optimizers are controlled, and what they are called."""

from collections.abc import Sequence

from pytorch_lightning.utilities.exceptions import MisconfigurationException  # type: ignore[attr-defined]
from torch.optim import Optimizer

Chosen = int | str


def names(optimizers: Sequence[Optimizer]) -> list[str]:
    """The class of each; the second of a kind is ``"Adam-1"``, as for Lightning's ``LearningRateMonitor``."""
    kinds = [type(one).__name__ for one in optimizers]
    earlier = [kinds[:index].count(kind) for index, kind in enumerate(kinds)]
    return [f"{kind}-{count}" if count else kind for kind, count in zip(kinds, earlier, strict=True)]


def index_of(choice: Chosen, optimizers: Sequence[Optimizer]) -> int:
    """Position of the optimizer that a number or a name means."""
    known = names(optimizers)
    if isinstance(choice, str) and choice in known:
        return known.index(choice)
    if isinstance(choice, int) and 0 <= choice < len(known):
        return choice
    listed = ", ".join(f"{index} ({name})" for index, name in enumerate(known))
    raise MisconfigurationException(
        f"RLLearningRate is told of an optimizer {choice!r}, configure_optimizers returned {listed}: choose one of "
        f"them by number or name."
    )
