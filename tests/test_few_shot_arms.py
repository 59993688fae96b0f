"""Arms of the few-shot comparison against known answers, and stacks against episodes alone."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rl_lr.few_shot.arms import best_fine_tuning, feature_network, trained
from rl_lr.few_shot.baselines import FineTuning, NearestNeighbour
from rl_lr.few_shot.config import FewShotConfig, small
from rl_lr.few_shot.dataset import Classes, drawn_glyphs
from rl_lr.few_shot.episodes import Episodes, draw_episodes
from rl_lr.few_shot.learner import Arm, ConvNet, StackedLearner, cross_entropies, flat
from rl_lr.few_shot.maml import LearnedStart
from rl_lr.few_shot.measure import Demand, Interval, Row, demands, rows
from rl_lr.few_shot.meta_learner import MetaLearner
from rl_lr.few_shot.prototypes import Prototypes, nearest_means
from rl_lr.few_shot.training import accuracies, episodic, train

WAYS, SHOTS = 3, 2


def silent(name: str, done: int, total: int, score: float) -> None:
    """No progress."""


@pytest.fixture(scope="module")
def episodes() -> Episodes:
    return draw_episodes(drawn_glyphs(small()).train, 4, WAYS, SHOTS, 3, np.random.default_rng(0))


def network(seed: int = 0) -> ConvNet:
    torch.manual_seed(seed)
    return ConvNet(1, 8, 4, 2, WAYS, scale=2.0)


def descended(start: ConvNet, episodes: Episodes, index: int, rate: float, steps: int) -> Tensor:
    """Logits of an episode's queries after plain gradient descent in a loop, from a head of zeros."""
    learner = start.with_head(WAYS, 2.0)
    optimizer = torch.optim.SGD(learner.parameters(), rate)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(learner(episodes.support[index]), episodes.support_labels)
        loss.backward()
        optimizer.step()
    answers: Tensor = learner(episodes.query[index])
    return answers.detach()


# --- the meta-learner ------------------------------------------------------------------------


def gated(rate: float, kept_bias: float = 50.0, steps: int = 4) -> MetaLearner:
    """A meta-learner whose gates are the same everywhere and always."""
    module = MetaLearner(network(), steps, hidden=3)
    for gate, bias in ((module.input_gate, math.log(rate / (1.0 - rate))), (module.forget_gate, kept_bias)):
        nn.init.zeros_(gate.weight)
        nn.init.constant_(gate.bias, bias)
    return module


def test_with_gates_held_open_it_is_plain_gradient_descent(episodes: Episodes) -> None:
    answers = gated(rate=0.05)(episodes).detach()
    for index in range(len(episodes)):
        torch.testing.assert_close(answers[index], descended(network(), episodes, index, 0.05, steps=4))


def test_a_closed_forget_gate_leaves_only_the_last_step(episodes: Episodes) -> None:
    """f = 0: the weights are -i times the gradient, whatever they were."""
    module = gated(rate=0.25, kept_bias=-200.0, steps=1)
    weights, ((rates, kept),) = module.adapt(episodes)
    learner, start = StackedLearner(network()), module.start(len(episodes)).detach()
    _, gradients = learner.gradients(start, episodes.support, episodes.support_labels)
    torch.testing.assert_close(rates, torch.full_like(rates, 0.25))
    assert not kept.any()
    torch.testing.assert_close(weights, -0.25 * gradients)


def test_gates_differ_between_coordinates_and_lie_between_0_and_1(episodes: Episodes) -> None:
    module = MetaLearner(network(), 3, hidden=3)
    with torch.no_grad():
        for parameter in (*module.lstm.parameters(), module.input_gate.weight, module.forget_gate.weight):
            parameter.normal_()
        _, gates = module.adapt(episodes)
    assert len(gates) == 3
    for gate in (gate for pair in gates for gate in pair):
        assert gate.shape == (4, flat(network()).numel())
        assert 0.0 <= gate.min() < gate.max() <= 1.0


def test_its_training_moves_start_and_gates_without_second_derivatives(episodes: Episodes) -> None:
    """With one step from θ_0 the gradient of the start's body is that of the query loss at θ_1, times f."""
    module = gated(rate=0.05, steps=1)
    cross_entropies(module(episodes), episodes.query_labels).sum().backward()
    with torch.no_grad():
        weights, _ = module.adapt(episodes)
    _, gradients = StackedLearner(network()).gradients(weights, episodes.query, episodes.query_labels)
    body = module.start.body
    assert body.grad is not None
    torch.testing.assert_close(body.grad, gradients[:, : body.numel()].sum(dim=0))
    assert module.input_gate.bias.grad is not None
    assert module.input_gate.bias.grad.abs() > 0


def test_the_start_treats_all_classes_alike() -> None:
    start = MetaLearner(network(), 1, 2).start
    with torch.no_grad():
        start.row.normal_()
        start.bias.normal_()
    answers = StackedLearner(network()).logits(start(2), torch.rand(2, 5, 1, 8, 8))
    torch.testing.assert_close(answers, answers[..., :1].expand(-1, -1, WAYS))


# --- MAML ------------------------------------------------------------------------------------


def test_first_order_is_plain_gradient_descent(episodes: Episodes) -> None:
    answers = LearnedStart(network(), 4, second_order=False, rate=0.05)(episodes).detach()
    torch.testing.assert_close(answers[1], descended(network(), episodes, 1, 0.05, steps=4))


def test_second_order_is_the_derivative_of_the_loss_after_the_steps(episodes: Episodes) -> None:
    """Against finite differences along a direction, in double precision."""
    doubles = Episodes(episodes.support.double(), episodes.query.double(), WAYS)
    module = LearnedStart(network().double(), 2, second_order=True, rate=0.05).double()

    def loss() -> Tensor:
        return cross_entropies(module(doubles), doubles.query_labels).sum()

    loss().backward()
    body, h = module.start.body, 1e-5
    assert body.grad is not None
    direction = torch.nn.functional.normalize(torch.randn_like(body), dim=0)
    slope = float(body.grad @ direction)
    with torch.no_grad():
        body.add_(h * direction)
        above = float(loss())
        body.sub_(2 * h * direction)
        below = float(loss())
    assert slope == pytest.approx((above - below) / (2 * h), rel=1e-3, abs=1e-6)


# --- stacks ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arm",
    [
        MetaLearner(network(), 3, 3),
        LearnedStart(network(), 3, True),
        Prototypes(network()),
        NearestNeighbour(),
        NearestNeighbour(network(), cosine=False),
        FineTuning(network(), "adam", 0.01, 3, True, 2.0),
    ],
    ids=lambda arm: type(arm).__name__,
)
def test_a_stacked_episode_is_the_same_alone(arm: Arm, episodes: Episodes) -> None:
    with torch.no_grad():
        together, alone = arm(episodes), [arm(one) for one in episodes.parts(1)]
    assert together.shape == (4, WAYS * 3, WAYS)
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("ways", [2, 4])
def test_an_episode_of_other_ways_does_not_fit(ways: int) -> None:
    drawn = draw_episodes(drawn_glyphs(small()).train, 1, ways, 1, 1, np.random.default_rng(0))
    with pytest.raises(
        ValueError, match=rf"of {ways} ways with images of 1×8×8 does not fit a learner of 3 ways"
    ):
        MetaLearner(network(), 1, 1)(drawn)


def test_an_episode_of_other_images_does_not_fit(episodes: Episodes) -> None:
    wide = Episodes(torch.zeros(1, 3, 3, 16, 16), torch.zeros(1, 3, 3, 16, 16), WAYS)
    reason = (
        r"with images of 3×16×16 does not fit a learner of 3 ways and 1×8×8: draw it at the learner's sizes"
    )
    for arm in (Prototypes(network()), LearnedStart(network(), 1, False)):
        with pytest.raises(ValueError, match=reason):
            arm(wide)


# --- baselines -------------------------------------------------------------------------------


def clusters() -> Classes:
    """Classes far apart: each lights a pixel of its own, with little noise."""
    generator = torch.Generator().manual_seed(0)
    images = 0.05 * torch.rand(6, 10, 1, 8, 8, generator=generator)
    for index in range(6):
        images[index, :, 0, index, index] += 1.0
    return Classes("clusters", tuple("abcdef"), tuple(images))


class Pixels(ConvNet):
    """A learner whose features are the pixels."""

    def __init__(self) -> None:
        super().__init__(1, 8, 1, 1, WAYS)
        self.features = nn.Sequential(nn.Flatten())


def test_separable_clusters_are_told_apart_without_fault() -> None:
    drawn = draw_episodes(clusters(), 20, WAYS, 1, 5, np.random.default_rng(0))
    for arm in (Prototypes(Pixels()), NearestNeighbour(), NearestNeighbour(cosine=False)):
        assert accuracies(arm, drawn).tolist() == [1.0] * 20


def test_the_nearest_mean_by_hand() -> None:
    support = torch.tensor([[[0.0, 0.0], [2.0, 0.0], [0.0, 4.0], [0.0, 6.0]]])  # means (1, 0) and (0, 5)
    answers = nearest_means(support, torch.tensor([[[1.0, 2.0]]]), ways=2)
    torch.testing.assert_close(answers, torch.tensor([[[-4.0 / 2, -10.0 / 2]]]))


def test_fine_tuning_of_the_head_leaves_the_body(episodes: Episodes) -> None:
    """The head alone: a convex problem on fixed features, solved here in a loop of torch's own."""
    body = network()
    answers = FineTuning(body, "sgd", 0.1, 5, whole=False, scale=2.0)(episodes)
    learner = body.with_head(WAYS, 2.0)
    optimizer = torch.optim.SGD(learner.head.parameters(), 0.1)
    for _ in range(5):
        optimizer.zero_grad()
        nn.functional.cross_entropy(learner(episodes.support[2]), episodes.support_labels).backward()
        optimizer.step()
    torch.testing.assert_close(answers[2], learner(episodes.query[2]).detach())


def test_fine_tuning_is_chosen_by_what_does_best(episodes: Episodes) -> None:
    best = best_fine_tuning(network(), 2.0, episodes)
    others = [
        FineTuning(network(), "adam", 0.001, 1, False, 2.0),
        FineTuning(network(), "sgd", 0.1, 20, True, 2.0),
    ]
    reached = accuracies(best, episodes).mean()
    assert all(reached >= accuracies(one, episodes).mean() for one in others)


# --- training and figures ----------------------------------------------------------------------


def test_an_interrupted_training_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    config, parts = small(), drawn_glyphs(small())

    def run(folder: Path, stop_at: int | None) -> MetaLearner:
        module = MetaLearner(network(), config.steps, config.hidden)

        def report(name: str, done: int, total: int, score: float) -> None:
            if done == stop_at:
                raise KeyboardInterrupt

        folder.mkdir(exist_ok=True)
        train(module, episodic("ours", module, parts, 1, config), config, folder, report)
        return module

    whole = run(tmp_path / "whole", None)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", config.validate_every)
    resumed = run(tmp_path / "parts", None)
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_folder_trained_with_other_settings_is_refused(tmp_path: Path) -> None:
    parts, module = drawn_glyphs(small()), Prototypes(network())
    train(module, episodic("p", module, parts, 1, small()), small(), tmp_path, silent)
    reason = r"p\.pt was trained with other settings or images: give another folder"
    with pytest.raises(ValueError, match=reason):
        train(module, episodic("p", module, parts, 1, small()), replace(small(), batch=3), tmp_path, silent)
    others = drawn_glyphs(replace(small(), seed=1))
    with pytest.raises(ValueError, match=reason):
        train(module, episodic("p", module, others, 1, small()), small(), tmp_path, silent)


def test_training_on_episodes_helps() -> None:
    """Prototypes of a random network, trained for a moment, tell glyphs of other classes better apart."""
    config = FewShotConfig(
        ways=3, size=8, channels=8, blocks=2, train_classes=40, validation_classes=20, iterations=60
    )
    parts, module = drawn_glyphs(config), Prototypes(ConvNet(1, 8, 8, 2, 3))
    tests = draw_episodes(parts.test, 100, 3, 1, 5, np.random.default_rng(0))
    before = accuracies(module, tests).mean()
    optimizer, rng = torch.optim.Adam(module.parameters(), 1e-2), np.random.default_rng(1)
    for _ in range(60):
        drawn = draw_episodes(parts.train, 8, 3, 1, 5, rng)
        optimizer.zero_grad()
        cross_entropies(module(drawn), drawn.query_labels).mean().backward()
        optimizer.step()
    assert accuracies(module, tests).mean() > before + 0.05


def test_intervals_and_what_counts_as_reached() -> None:
    table = rows(1, {"meta-learner": [0.8, 0.9, 1.0], "a": [0.1, 0.2, 0.3], "b": [0.7, 0.9, 1.0]}, {})
    by_arm = {row.arm: row for row in table}
    assert by_arm["meta-learner"].ahead == Interval(0.0, 0.0)
    assert by_arm["a"].ahead.mean == pytest.approx(0.7)
    assert by_arm["a"].ahead.half == pytest.approx(0.0, abs=1e-12)  # paired: the same on every episode
    assert by_arm["a"].glyphs.half == pytest.approx(4.302653 * 0.1 / math.sqrt(3))
    found = {one.rival: one.reached for one in demands(table, ("a", "b"))}
    assert found == {"a": True, "b": False}
    far = Row("a", 1, Interval(0.5, 0.1), None, Interval(0.0, 0.0))
    assert not Demand("a", 1, Interval(0.65, 0.05), far.glyphs).reached  # they touch


def test_of_the_arms_that_learn_gates_one_keeps_the_start_and_one_forgets_the_features(
    tmp_path: Path,
) -> None:
    config, parts = replace(small(), shots=(1,)), drawn_glyphs(small())
    features = feature_network(parts, config, tmp_path, silent)
    made = dict(trained(features, 1, parts, config, tmp_path, silent))
    ours, kept, scratch = (
        made[name] for name in ("meta-learner", "gates alone, start fixed", "meta-learner, from scratch")
    )
    assert isinstance(ours, MetaLearner)
    assert isinstance(kept, MetaLearner)
    assert isinstance(scratch, MetaLearner)
    body = flat(features.features)
    assert torch.equal(kept.start.body, body)
    assert (kept.start.body.requires_grad, ours.start.body.requires_grad) == (False, True)
    assert (ours.start.body - body).norm() < 0.5 < (scratch.start.body - body).norm()
