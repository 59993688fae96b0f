"""Drawn glyphs: a class is a few random strokes, an example the same strokes from another hand."""

import itertools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]

_T = np.linspace(0.0, 1.0, 24)[:, None]  # near enough to each other to draw a stroke without gaps
_CURVE = np.concatenate([(1 - _T) ** 3, 3 * _T * (1 - _T) ** 2, 3 * _T**2 * (1 - _T), _T**3], axis=1)
_HAND = 0.15  # standard deviation of control points between examples, in half widths of the image
_TURN, _SHEAR, _ZOOM, _SHIFT = 0.5, 0.3, 0.25, 0.2  # largest: radians, -, log, half widths
_NOISE = 0.15  # standard deviation of what is added to every pixel


def draw_class(seed: int, index: int, examples: int, size: int) -> Tensor:
    """Images of glyph number ``index``.

    .. code-block:: text

        pixel(p) = clip(exp(-min_q |p - A q|² / 2w²) + noise, 0, 1)

    with q the points of all strokes, cubic Bézier curves whose control points are those of the class plus jitter;
    A turns (±0.5 rad), shears, zooms along each axis (±25 %) and shifts (±20 % of half the width); w is the
    width of the pen.

    Args:
        seed: of the family of glyphs.
        index: of the class; the same whatever other classes are drawn.
        examples: how many images.
        size: height and width, in pixels.

    Returns:
        ``[examples, 1, size, size]`` float32 in [0, 1], strokes bright.
    """
    rng = np.random.default_rng([seed, index])
    strokes = _jittered(_strokes(rng), examples, rng)
    ink = _pen(_moved(strokes, rng), rng.uniform(0.06, 0.1, (examples, 1)), size)
    pixels = ink + _NOISE * rng.standard_normal(ink.shape)
    return torch.from_numpy(pixels.clip(0.0, 1.0).astype(np.float32)).view(examples, 1, size, size)


def _strokes(rng: np.random.Generator) -> Array:
    """Control points ``[strokes, 4, 2]`` of a class; a stroke may begin where the last one ended."""
    strokes = rng.uniform(-1.0, 1.0, (rng.integers(2, 4), 4, 2))
    for last, stroke in itertools.pairwise(strokes):
        if rng.random() < 0.5:
            stroke[0] = last[3]
    points = _CURVE @ strokes
    low, high = points.min(axis=(0, 1)), points.max(axis=(0, 1))
    return np.asarray(0.7 * (2.0 * strokes - low - high) / (high - low))


def _jittered(strokes: Array, examples: int, rng: np.random.Generator) -> Array:
    """Points along the strokes of every example, ``[examples, points, 2]``."""
    control = strokes + _HAND * rng.standard_normal((examples, *strokes.shape))
    return (_CURVE @ control).reshape(examples, -1, 2)


def _moved(points: Array, rng: np.random.Generator) -> Array:
    """Every example turned, sheared, zoomed and shifted by an amount of its own."""
    examples = len(points)
    turn, shear = rng.uniform(-_TURN, _TURN, examples), rng.uniform(-_SHEAR, _SHEAR, examples)
    zoom = np.exp(rng.uniform(-_ZOOM, _ZOOM, (examples, 2)))
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]).transpose(2, 0, 1)
    slant = np.broadcast_to(np.eye(2), (examples, 2, 2)).copy()
    slant[:, 0, 1] = shear
    moved = points @ (rotation @ slant * zoom[:, None]).transpose(0, 2, 1)
    return moved + rng.uniform(-_SHIFT, _SHIFT, (examples, 1, 2))


def _pen(points: Array, width: Array, size: int) -> Array:
    """Ink ``[examples, pixels]`` from the distance of every pixel to the nearest point."""
    ticks = (np.arange(size) + 0.5) * 2.0 / size - 1.0
    across = np.square(points[:, :, 0, None] - ticks)
    down = np.square(points[:, :, 1, None] - ticks)
    squares = (down[:, :, :, None] + across[:, :, None, :]).min(axis=1)
    return np.asarray(np.exp(-squares.reshape(len(points), -1) / (2.0 * np.square(width))))
