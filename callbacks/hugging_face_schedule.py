"""What a Hugging Face Trainer has for a schedule: it steps it, asks it for the rate, saves it and loads it."""

from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from rl_lr.callbacks.averages import TRAINED
from rl_lr.callbacks.fallbacks import Fallbacks
from rl_lr.param_groups import apart
from rl_lr.scheduler import RLScheduler


class Schedule:
    """A scheduler of ours in the place of one of torch.

    It is stepped after every step that the optimizer made, and not after those that a gradient scaler skipped. Where
    every parameter has a rate of its own, states of the optimizer hold the groups that it had before.

    Args:
        model: what is trained.
        scheduler: what sets the rate.
        fallbacks: what becomes of a scheduler that fails.
    """

    def __init__(self, model: nn.Module, scheduler: RLScheduler, fallbacks: Fallbacks) -> None:
        self.scheduler, self._model, self._fallbacks = scheduler, model, fallbacks
        self.loss: Tensor | None = None  # of the batches since the step began
        self.saved: dict[str, Any] | None = None
        self._hooks = []
        if scheduler.granularity == "tensor":
            optimizer = scheduler.optimizer
            self._hooks += [optimizer.register_state_dict_post_hook(self._joined)]
            self._hooks += [optimizer.register_load_state_dict_pre_hook(self._apart)]

    def add(self, loss: Tensor) -> None:
        """A part of the loss of the step under way."""
        self.loss = loss if self.loss is None else self.loss + loss

    def step(self) -> None:
        """Report the step that was made; its loss is complete."""
        self._fallbacks.step(self.scheduler, self.loss)

    def get_last_lr(self) -> list[float]:
        """Asked between the optimizer's step and :meth:`step`: the rates that were used."""
        return self.scheduler.get_last_lr()

    def state_dict(self) -> dict[str, Any]:
        """With what a ``LambdaLR`` loads, so that a Trainer without us goes on by its own schedule.

        Where weights are averaged, the model of the checkpoint has the averages, and this what is trained.
        """
        averaged = {TRAINED: self._model.state_dict()} if self.scheduler.average else {}
        groups = self.scheduler.optimizer.state_dict()["param_groups"]
        return {
            "rl_lr": self.scheduler.state_dict() | averaged,
            "last_epoch": self.scheduler.controller.step,
            "base_lrs": [group["initial_lr"] for group in groups],
            "lr_lambdas": [None] * len(groups),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Keep it until the training starts, as the Trainer swallows warnings while it loads.

        Another schedule's is left alone, also of one that loaded ours and has counted further.
        """
        if "rl_lr" in state and state["rl_lr"]["controller"]["step"] == state["last_epoch"]:
            self.saved = state["rl_lr"]

    def go_on(self, state: dict[str, Any]) -> None:
        """Go on from a state, with the weights that were trained."""
        self.scheduler.load_state_dict(state)
        if TRAINED in state:
            self._model.load_state_dict(state[TRAINED])

    def detach(self) -> None:
        """Let go of the optimizer."""
        for hook in self._hooks:
            hook.remove()
        self.scheduler.detach()

    def _joined(self, _: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        return self.scheduler.joined(state)

    def _apart(self, optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        """What torch left out when it gave a group of weights that are spread to one of its parameters, they have."""
        groups = apart(state["param_groups"])
        for ours, theirs in zip(optimizer.param_groups, groups, strict=False):  # torch refuses other numbers
            theirs.update({name: ours[name] for name in ours.keys() - theirs.keys()})
        return state | {"param_groups": groups}
