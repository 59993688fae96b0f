"""Training of an arm: Adam on fresh episodes, the moment chosen by validation, taken up again where it stopped."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rl_lr.charts import writer_after
from rl_lr.few_shot.config import FewShotConfig
from rl_lr.few_shot.dataset import Split
from rl_lr.few_shot.episodes import Episodes, draw_episodes
from rl_lr.few_shot.learner import Arm, cross_entropies

Report = Callable[[str, int, int, float], None]
"""Called with the name of what is trained, steps made, steps in all, and the best accuracy on validation episodes."""

_LONGEST = 1.0  # norm of a gradient; one bad episode would undo many steps


@dataclass(frozen=True)
class Plan:
    """How one arm is trained."""

    name: str
    """Of its curves and its file."""
    iterations: int
    """Gradient steps."""
    loss: Callable[[np.random.Generator], Tensor]
    """A fresh training loss, with a history."""
    score: Callable[[], float]
    """Accuracy on the validation episodes, which chooses the moment."""
    images: str
    """:attr:`Split.digest` of what it learns from."""


def episodic(name: str, arm: Arm, split: Split, shots: int, config: FewShotConfig) -> Plan:
    """Trained as it is used: the cross-entropy of queries of training episodes."""

    def loss(rng: np.random.Generator) -> Tensor:
        drawn = draw_episodes(split.train, config.batch, config.ways, shots, config.train_queries, rng)
        return cross_entropies(arm(drawn), drawn.query_labels).mean()

    chosen_by = validation_episodes(split, shots, config)
    return Plan(name, config.iterations, loss, lambda: float(accuracies(arm, chosen_by).mean()), split.digest)


def validation_episodes(split: Split, shots: int, config: FewShotConfig) -> Episodes:
    """Those that moments and settings are chosen by; the same at every call."""
    rng = np.random.default_rng([config.seed, 1])
    return draw_episodes(
        split.validation, config.validation_episodes, config.ways, shots, config.queries, rng
    )


def accuracies(arm: Arm, episodes: Episodes, at_once: int = 20) -> Tensor:
    """Share of the queries that an arm tells right, ``[episodes]``."""
    with torch.no_grad():
        answers = torch.cat([arm(part).argmax(dim=-1) for part in episodes.parts(at_once)])
    return (answers == episodes.query_labels).double().mean(dim=1)


def train(module: nn.Module, plan: Plan, config: FewShotConfig, folder: Path, report: Report) -> None:
    """Train a module in place; it ends with the weights of the best moment.

    Args:
        module: what ``plan.loss`` depends on.
        plan: how.
        config: settings.
        folder: where ``NAME.pt`` is kept, from which an interrupted training goes on to the same bits, and the
            curves, in ``tensorboard/NAME``.
        report: told of progress.

    Raises:
        ValueError: if the folder holds a training with other settings, or on other images.
    """
    path = folder / f"{plan.name}.pt"
    optimizer = torch.optim.Adam(module.parameters(), lr=config.learning_rate)
    falling = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: 0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * min(1.0, step / plan.iterations))),
    )
    settings = json.dumps(asdict(config) | {"images": plan.images}, sort_keys=True)
    kept = _Kept(module, optimizer, falling, settings)
    kept.load(path)
    report(plan.name, kept.done, plan.iterations, kept.score)
    if kept.done < plan.iterations:
        with writer_after(folder / "tensorboard" / plan.name, kept.done) as curves:
            if not kept.done:
                kept.look(plan.score())
            while kept.done < plan.iterations:
                loss = _stretch(module, plan, kept, config)
                kept.look(plan.score())
                curves.add_scalar("training loss", loss, kept.done)
                curves.add_scalar("validation accuracy", kept.last_score, kept.done)
                kept.save(path)
                report(plan.name, kept.done, plan.iterations, kept.score)
    module.load_state_dict(kept.best)


def _stretch(module: nn.Module, plan: Plan, kept: "_Kept", config: FewShotConfig) -> float:
    """Steps until the next look; their mean loss."""
    losses = []
    for _ in range(min(config.validate_every, plan.iterations - kept.done)):
        loss = plan.loss(np.random.default_rng([config.seed, 2, kept.done]))
        kept.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), _LONGEST)
        kept.optimizer.step()
        kept.falling.step()
        kept.done += 1
        losses.append(float(loss.detach()))
    return sum(losses) / len(losses)


class _Kept:
    """What an interrupted training needs to go on."""

    def __init__(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        falling: torch.optim.lr_scheduler.LambdaLR,
        settings: str,
    ) -> None:
        self.module, self.optimizer, self.falling = module, optimizer, falling
        self.done, self.score, self.last_score = 0, 0.0, 0.0
        self.best = _copy(module)
        self._settings = settings

    def look(self, score: float) -> None:
        """Keep the weights if they are the best so far."""
        self.last_score = score
        if score >= self.score:
            self.score, self.best = score, _copy(self.module)

    def save(self, path: Path) -> None:
        """Write all of it; a crash in the middle leaves the last one."""
        state = {
            "settings": self._settings,
            "done": self.done,
            "score": self.score,
            "best": self.best,
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "falling": self.falling.state_dict(),
        }
        fresh = path.with_suffix(".new")
        torch.save(state, fresh)
        fresh.replace(path)

    def load(self, path: Path) -> None:
        """Go on from what was written, if anything was."""
        if not path.is_file():
            return
        state = torch.load(path, weights_only=True)
        if state["settings"] != self._settings:
            raise ValueError(
                f"{path} was trained with other settings or images: give another folder, or remove it."
            )
        self.done, self.score, self.best = state["done"], state["score"], state["best"]
        self.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.falling.load_state_dict(state["falling"])


def _copy(module: nn.Module) -> dict[str, Any]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}
