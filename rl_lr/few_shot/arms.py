"""The arms of the comparison: what is trained for it, and what is measured beside it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

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

_RATES = {"sgd": (0.003, 0.01, 0.03, 0.1), "adam": (0.001, 0.003, 0.01)}
_STEPS = (1, 5, 10, 20, 50)


def feature_network(split: Split, config: FewShotConfig, folder: Path, report: Report) -> ConvNet:
    """The network that was trained to tell all training classes apart: the body that all arms begin with."""
    network = _fresh(split.train.channels, config, len(split.train))
    train(network, classifying("features", network, split, config), config, folder, report)
    return network


def trained(
    features: ConvNet, shots: int, split: Split, config: FewShotConfig, folder: Path, report: Report
) -> Iterator[tuple[str, Arm]]:
    """Train the arms that learn from episodes, one after the other, ours first; yields each when it is done."""
    ours = MetaLearner(_begun(features, config), config.steps, config.hidden)
    one_rate = LearnedStart(_begun(features, config), config.steps, second_order=False)
    maml = LearnedStart(_begun(features, config), config.steps, second_order=True)
    prototypes = Prototypes(_begun(features, config))
    scratch = MetaLearner(_fresh(split.train.channels, config, config.ways), config.steps, config.hidden)
    modules: tuple[tuple[str, nn.Module, int], ...] = (
        (REFERENCE, ours, config.iterations),
        ("prototypical network", prototypes, config.prototype_iterations),
        ("learned start, one rate", one_rate, config.iterations),
        ("MAML", maml, config.maml_iterations),
        ("meta-learner, from scratch", scratch, config.iterations),
    )
    for name, module, iterations in modules:
        plan = episodic(f"{name}, {shots}-shot", module, iterations, split, shots, config)
        train(module, plan, config, folder, report)
        yield name, module


def untrained(
    features: ConvNet, shots: int, split: Split, config: FewShotConfig
) -> Iterator[tuple[str, Arm]]:
    """Arms whose few settings are chosen on validation episodes."""
    chosen_by = validation_episodes(split, shots, config)
    yield PIXELS, _best_neighbour(None, chosen_by)
    yield FEATURES, _best_neighbour(features, chosen_by)
    yield FINE_TUNING, best_fine_tuning(features, chosen_by)


def _best_neighbour(network: ConvNet | None, chosen_by: Episodes) -> NearestNeighbour:
    choices = [NearestNeighbour(network, cosine) for cosine in (True, False)]
    return max(choices, key=lambda one: float(accuracies(one, chosen_by).mean()))


def best_fine_tuning(network: ConvNet, chosen_by: Episodes) -> FineTuning:
    """The best on these episodes of two optimizers, several rates and steps, the head alone or all layers."""
    found: dict[FineTuning, float] = {}
    for optimizer, rates in _RATES.items():
        for rate in rates:
            for whole in (False, True):
                one = FineTuning(network, optimizer, rate, max(_STEPS), whole)  # type: ignore[arg-type]
                for steps, answers in zip(_STEPS, one.answers(chosen_by, _STEPS), strict=True):
                    right = (answers.argmax(dim=-1) == chosen_by.query_labels).double().mean()
                    found[replace(one, steps=steps)] = float(right)
    return max(found, key=lambda one: found[one])


def _fresh(colours: int, config: FewShotConfig, classes: int) -> ConvNet:
    """A new network; torch's global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return ConvNet(colours, config.size, config.channels, config.blocks, classes)


def _begun(features: ConvNet, config: FewShotConfig) -> ConvNet:
    """A learner with the body of a trained network, and a head of zeros, which prefers no class."""
    learner = features.with_head(config.ways)
    learner.features.load_state_dict(features.features.state_dict())
    nn.init.zeros_(learner.head.weight)
    nn.init.zeros_(learner.head.bias)
    return learner
