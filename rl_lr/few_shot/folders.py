"""Folders of images, one per class, as Omniglot and mini-ImageNet are unpacked."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from rl_lr.few_shot.dataset import Classes, Split, split

_ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"}
_PARTS = (("train", "training"), ("val", "validation"), ("test",))


def read_folder(folder: Path, size: int, seed: int) -> Split:
    """Classes from a folder: every folder below it that holds images is one, at any depth.

    Folders called train, val and test, if all three are there, are the parts; otherwise classes are split at random.
    Images are resized; they are grey if all are, else all have three channels. Grey ones are turned round where
    most of them is bright, so that strokes are bright as those of the digits.

    Args:
        folder: such as ``omniglot`` or ``mini-imagenet``.
        size: height and width that images are resized to, in pixels.
        seed: of the split.

    Raises:
        ValueError: if it is no folder, holds no classes or a single image, or an image cannot be read.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder: give one that holds a folder of images for each class.")
    found = {place: _images(place) for place in sorted(folder.rglob("*")) if place.is_dir()}
    found = {place: images for place, images in found.items() if images}
    beside = len(_images(folder))
    if beside + sum(map(len, found.values())) == 1:
        raise ValueError(
            f"{folder} holds a single image: an episode needs several classes of several images each."
        )
    if not found:
        raise ValueError(
            f"{folder} holds zero classes, and {beside} images beside them: put the images of each "
            f"class into a folder of its own."
        )
    pixels = {place: [_read(path, size) for path in images] for place, images in found.items()}
    classes = _as_classes(str(folder), folder, pixels)
    parts = [[i for i, name in enumerate(classes.names) if name.split("/")[0] in part] for part in _PARTS]
    if all(parts):
        train, validation, test = (
            classes.take(f"the {part[-1]} part of {folder}", which)
            for part, which in zip(_PARTS, parts, strict=True)
        )
        return Split(train, validation, test)
    return split(classes, seed)


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in _ENDINGS)


def _read(path: Path, size: int) -> Image.Image:
    """The image at its new size, grey or RGB."""
    try:
        with Image.open(path) as image:
            grey = image.mode in ("1", "L", "LA", "I", "I;16")
            return image.convert("L" if grey else "RGB").resize((size, size), Image.Resampling.BOX)
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{path} is no image that can be read ({error}): remove or replace it.") from error


def _as_classes(name: str, folder: Path, pixels: dict[Path, list[Image.Image]]) -> Classes:
    grey = all(image.mode == "L" for images in pixels.values() for image in images)
    stacks = [torch.stack([_tensor(image, grey) for image in images]) for images in pixels.values()]
    if grey and float(np.mean([float(stack.mean()) for stack in stacks])) > 0.5:
        stacks = [1.0 - stack for stack in stacks]
    return Classes(name, tuple(place.relative_to(folder).as_posix() for place in pixels), tuple(stacks))


def _tensor(image: Image.Image, grey: bool) -> Tensor:
    """``[channels, size, size]`` float32 in [0, 1]."""
    array = np.asarray(image.convert("L" if grey else "RGB"), dtype=np.float32) / 255.0
    return torch.from_numpy(array).view(*array.shape[:2], -1).permute(2, 0, 1).contiguous()
