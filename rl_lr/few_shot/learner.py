"""The learner that every arm trains: a small convolutional network, many of them at once."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from rl_lr.few_shot.episodes import Episodes
from rl_lr.layers import StackedLayers


class ConvNet(nn.Module):
    """Blocks of convolution, pooling, normalisation and ReLU, then a linear head.

    Normalised within each image (group normalisation with one group), so that there are no running statistics
    that could carry anything from one episode, or from meta-training, to another; for batch normalisation the
    paper needs care (section 3.3.2).

    Args:
        colours: channels of the images.
        size: their height and width; a multiple of ``2 ** blocks``.
        channels: of every block.
        blocks: how many.
        classes: outputs of the head.
        scale: of what the head sees. A step of the head at rate η changes logits by η · scale² · |φ|² times a cosine: with
            few features φ it must be above 1, or the rate at which the head learns anything breaks the body.
    """

    def __init__(
        self, colours: int, size: int, channels: int, blocks: int, classes: int, scale: float = 1.0
    ) -> None:
        super().__init__()
        self.image, self.classes = (colours, size, size), classes
        self._scale = scale
        self._body = (colours, size, channels, blocks)
        layers: list[nn.Module] = []
        for inputs in (colours, *[channels] * (blocks - 1)):
            # Pooling before the normalisation is a quarter of the work, and ReLU does not mind.
            convolution = nn.Conv2d(inputs, channels, 3, padding=1)
            layers += [convolution, nn.MaxPool2d(2), nn.GroupNorm(1, channels), nn.ReLU()]
        self.features = nn.Sequential(*layers[:-1], nn.Flatten())  # no ReLU: the head sees directions
        self.head = nn.Linear(channels * (size // 2**blocks) ** 2, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images ``[n, colours, size, size]`` to logits ``[n, classes]``."""
        logits: Tensor = self.head(self._scale * self.features(images))
        return logits

    def with_head(self, classes: int, scale: float = 1.0) -> "ConvNet":
        """The same body, copied, under a head of zeros, which prefers no class."""
        network = ConvNet(*self._body, classes, scale)
        network.features.load_state_dict(self.features.state_dict())
        nn.init.zeros_(network.head.weight)
        nn.init.zeros_(network.head.bias)
        return network

    def fresh(self) -> "ConvNet":
        """One of the same sizes as new; the caller has seeded torch's global generator."""
        return ConvNet(*self._body, self.classes, self._scale)

    def accept(self, episodes: Episodes) -> None:
        """Refuse episodes that do not fit: ValueError, in one sentence."""
        own, theirs = (self.classes, *self.image), (episodes.ways, *episodes.support.shape[2:])
        if own != theirs:
            raise ValueError(
                f"An episode of {theirs[0]} ways with images of {'×'.join(map(str, theirs[1:]))} does not fit a learner "
                f"of {own[0]} ways and {'×'.join(map(str, own[1:]))}: draw it at the learner's sizes."
            )


class StackedLearner:
    """One network with the weights of many, as pure functions; a learner is a row ``[parameters]``.

    Args:
        network: whose architecture; its own weights are not used.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._shapes = {name: parameter.shape for name, parameter in network.named_parameters()}
        self.sizes = {name: shape.numel() for name, shape in self._shapes.items()}

    def logits(self, weights: Tensor, images: Tensor) -> Tensor:
        """What each learner says of its own images.

        Args:
            weights: ``[learners, parameters]``.
            images: ``[learners, n, colours, size, size]``.

        Returns:
            ``[learners, n, classes]``, differentiable as often as is wanted.
        """
        answers: Tensor = vmap(self._one)(self._named(weights), images)
        return answers

    def losses(self, weights: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of each learner, ``[learners]``; labels ``[n]`` are shared."""
        answers = self.logits(weights, images)
        return cross_entropies(answers, labels)

    def gradients(
        self, weights: Tensor, images: Tensor, labels: Tensor, differentiable: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Losses ``[learners]`` and their gradients ``[learners, parameters]``.

        Args:
            weights: ``[learners, parameters]``.
            images: ``[learners, n, colours, size, size]``.
            labels: ``[n]``.
            differentiable: whether both can be differentiated with respect to ``weights``, else they are constants.
        """
        with torch.enable_grad():
            if not differentiable:
                weights = weights.detach().requires_grad_()
            losses = self.losses(weights, images, labels)
            (gradients,) = torch.autograd.grad(losses.sum(), weights, create_graph=differentiable)
        return (losses, gradients) if differentiable else (losses.detach(), gradients)

    def _named(self, weights: Tensor) -> dict[str, Tensor]:
        parts = weights.split(list(self.sizes.values()), dim=1)
        return {
            name: part.reshape(len(weights), *shape)
            for (name, shape), part in zip(self._shapes.items(), parts, strict=True)
        }

    def _one(self, weights: dict[str, Tensor], images: Tensor) -> Tensor:
        with StackedLayers():
            logits: Tensor = functional_call(self._network, weights, (images,))
        return logits


def flat(network: nn.Module) -> Tensor:
    """A copy of all weights of a network in one row ``[parameters]``, as :class:`StackedLearner` takes them."""
    return torch.cat([parameter.detach().reshape(-1) for parameter in network.parameters()])


def cross_entropies(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over the images of each episode: ``[episodes, n, ways]`` and shared labels ``[n]`` to ``[episodes]``."""
    chosen = logits.log_softmax(dim=-1)[:, torch.arange(len(labels)), labels]
    return -chosen.mean(dim=1)


Arm = Callable[[Episodes], Tensor]
"""Anything that answers episodes: logits of their queries, ``[episodes, ways · queries, ways]``."""
