"""Settings of the few-shot comparison: images, episodes, networks, trainings."""

from dataclasses import dataclass


@dataclass(frozen=True)
class FewShotConfig:
    """What is drawn, trained and measured."""

    ways: int = 5
    """Classes of an episode."""
    shots: tuple[int, ...] = (1, 5)
    """Labelled images of each class; every number is a comparison of its own."""
    queries: int = 15
    """Images of each class that are to be told apart, in test and validation episodes."""
    train_queries: int = 5
    """The same in training episodes, where more of them cost more than they teach."""
    size: int = 16
    """Height and width of the images, in pixels; halved by every block of the network."""
    train_classes: int = 320
    """Glyphs that arms are trained on."""
    validation_classes: int = 64
    """Glyphs by which settings and moments of a training are chosen."""
    test_classes: int = 128
    """Glyphs that only the results are measured on."""
    examples: int = 20
    """Images of each glyph."""
    channels: int = 16
    """Width of each convolution."""
    blocks: int = 3
    """Convolutions, each followed by pooling."""
    head_scale: float = 2.0
    """Of what the head of a learner sees; see :class:`rl_lr.few_shot.learner.ConvNet`."""
    steps: int = 3
    """Steps that the meta-learner, and MAML, make on the labelled images."""
    hidden: int = 5
    """Cells of the meta-learner's LSTM, per coordinate."""
    batch: int = 8
    """Episodes behind one gradient step of a training."""
    iterations: int = 600
    """Gradient steps of every training on episodes."""
    feature_iterations: int = 3000
    """Gradient steps, on 128 images each, of the network that tells all training classes apart."""
    learning_rate: float = 3e-3
    """Of Adam in every training; it falls to a hundredth along a cosine."""
    validate_every: int = 100
    """Gradient steps between looks at the validation episodes; the best moment is kept."""
    validation_episodes: int = 80
    """Episodes that moments and settings are chosen by."""
    test_episodes: int = 600
    """Episodes of the results, the same for every arm."""
    seed: int = 0
    """Of glyphs, splits, episodes and networks."""

    def __post_init__(self) -> None:
        """Refuse what no episode could be made of."""
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise ValueError(
                    f"FewShotConfig.{name} is {getattr(self, name)!r}: it must be at least {least}."
                )
        if not self.shots or min(self.shots) < 1:
            raise ValueError(
                f"FewShotConfig.shots is {self.shots}: give one number or several, each at least 1."
            )
        for name in ("learning_rate", "head_scale"):
            if not getattr(self, name) > 0.0:
                raise ValueError(
                    f"FewShotConfig.{name} is {getattr(self, name)!r}: it must be a positive number."
                )
        if self.size % 2**self.blocks:
            raise ValueError(
                f"FewShotConfig.size is {self.size}: {self.blocks} blocks halve it, so it must be a multiple "
                f"of {2**self.blocks}."
            )

    @property
    def class_counts(self) -> tuple[int, int, int]:
        """Glyphs to train on, to choose by, and to test on."""
        return self.train_classes, self.validation_classes, self.test_classes

    @property
    def most_images(self) -> int:
        """Images that an episode can ask of one class."""
        return max(self.shots) + max(self.queries, self.train_queries)


_LEAST = {
    "ways": 2,
    "queries": 1,
    "train_queries": 1,
    "size": 4,
    "train_classes": 1,
    "validation_classes": 1,
    "test_classes": 1,
    "examples": 1,
    "channels": 1,
    "blocks": 1,
    "steps": 1,
    "hidden": 1,
    "batch": 1,
    "iterations": 1,
    "feature_iterations": 1,
    "validate_every": 1,
    "validation_episodes": 1,
    "test_episodes": 2,
    "seed": 0,
}


def small() -> FewShotConfig:
    """Sizes at which the whole command takes seconds: for a look, and for tests. Its figures mean nothing."""
    return FewShotConfig(
        ways=3,
        shots=(1,),
        queries=3,
        train_queries=2,
        size=8,
        train_classes=8,
        validation_classes=4,
        test_classes=4,
        examples=6,
        channels=4,
        blocks=2,
        steps=2,
        hidden=3,
        batch=2,
        iterations=6,
        feature_iterations=6,
        validate_every=3,
        validation_episodes=4,
        test_episodes=8,
    )
