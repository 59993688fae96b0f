"""The arms of the comparison: what is trained for it, and what is measured beside it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from rl_lr.few_shot.baselines import FineTuning, NearestNeighbour, classifying
from rl_lr.few_shot.config import FewShotConfig
from rl_lr.few_shot.dataset import Split
from rl_lr.few_shot.episodes import Episodes
from rl_lr.few_shot.learner import Arm, ConvNet
from rl_lr.few_shot.maml import LearnedStart
from rl_lr.few_shot.measure import REFERENCE
from rl_lr.few_shot.meta_learner import MetaLearner
from rl_lr.few_shot.prototypes import Prototypes
from rl_lr.few_shot.training import Report, accuracies, episodic, train, validation_episodes

PIXELS, FEATURES, FINE_TUNING = "nearest neighbour, pixels", "nearest neighbour, features", "fine-tuning"
RIVALS = (PIXELS, FEATURES, FINE_TUNING)
"""What the meta-learner has to be above."""

_RATES: dict[Literal["sgd", "adam"], tuple[float, ...]] = {
    "sgd": (0.003, 0.01, 0.03, 0.1),
    "adam": (0.001, 0.003, 0.01),
}
_STEPS = (1, 3, 5, 10, 20)


def _ours(learner: ConvNet, config: FewShotConfig) -> nn.Module:
    return MetaLearner(learner, config.steps, config.hidden)


def _gates_alone(learner: ConvNet, config: FewShotConfig) -> nn.Module:
    module = MetaLearner(learner, config.steps, config.hidden)
    module.start.requires_grad_(False)
    return module


def _start_alone(learner: ConvNet, config: FewShotConfig) -> nn.Module:
    return LearnedStart(learner, config.steps, second_order=False)


def _maml(learner: ConvNet, config: FewShotConfig) -> nn.Module:
    return LearnedStart(learner, config.steps, second_order=True)


def _prototypes(learner: ConvNet, config: FewShotConfig) -> nn.Module:
    return Prototypes(learner)


def _from_scratch(learner: ConvNet, config: FewShotConfig) -> nn.Module:
    return MetaLearner(learner.fresh(), config.steps, config.hidden)


_BUILDERS: dict[str, Callable[[ConvNet, FewShotConfig], nn.Module]] = {
    REFERENCE: _ours,
    "gates alone, start fixed": _gates_alone,
    "learned start, one rate": _start_alone,
    "MAML": _maml,
    "prototypical network": _prototypes,
    "meta-learner, from scratch": _from_scratch,
}
"""What is trained on episodes, ours first, each from a learner with the body of the network for all classes."""


def feature_network(split: Split, config: FewShotConfig, folder: Path, report: Report) -> ConvNet:
    """The network that was trained to tell all training classes apart: the body that all arms begin with."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = ConvNet(split.train.channels, config.size, config.channels, config.blocks, len(split.train))
    train(network, classifying("features", network, split, config), config, folder, report)
    return network


def trained(
    features: ConvNet, shots: int, split: Split, config: FewShotConfig, folder: Path, report: Report
) -> Iterator[tuple[str, Arm]]:
    """Train the arms that learn from episodes, one after the other, ours first; yields each when it is done."""

    for name, build in _BUILDERS.items():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            module = build(features.with_head(config.ways, config.head_scale), config)
        plan = episodic(f"{name}, {shots}-shot", module, split, shots, config)
        train(module, plan, config, folder, report)
        yield name, module


def untrained(
    features: ConvNet, shots: int, split: Split, config: FewShotConfig
) -> Iterator[tuple[str, Arm]]:
    """Arms whose few settings are chosen on validation episodes."""
    chosen_by = validation_episodes(split, shots, config)
    yield PIXELS, _best_neighbour(None, chosen_by)
    yield FEATURES, _best_neighbour(features, chosen_by)
    yield FINE_TUNING, best_fine_tuning(features, config.head_scale, chosen_by)


def _best_neighbour(network: ConvNet | None, chosen_by: Episodes) -> NearestNeighbour:
    choices = [NearestNeighbour(network, cosine) for cosine in (True, False)]
    return max(choices, key=lambda one: float(accuracies(one, chosen_by).mean()))


def best_fine_tuning(network: ConvNet, scale: float, chosen_by: Episodes) -> FineTuning:
    """The best on these episodes of two optimizers, several rates and steps, the head alone or all layers."""
    found: dict[FineTuning, float] = {}
    for optimizer, rates in _RATES.items():
        for rate in rates:
            for whole in (False, True):
                one = FineTuning(network, optimizer, rate, max(_STEPS), whole, scale)
                for steps, answers in zip(_STEPS, one.answers(chosen_by, _STEPS), strict=True):
                    right = (answers.argmax(dim=-1) == chosen_by.query_labels).double().mean()
                    found[replace(one, steps=steps)] = float(right)
    return max(found, key=lambda one: found[one])
