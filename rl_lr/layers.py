"""Layers that stack badly, and the same mathematics in a form that stacks well.

``vmap`` makes of a convolution one with as many groups as runs, which processors compute slowly;
it copies images around pooling, and has no rule at all for fused recurrence. Inside
:class:`StackedLayers` such calls of a task's own modules are answered by stacked matrix products
and elementwise operations. Stacked images lie as ``[runs, channels, height, width, batch]`` in
memory: the batch innermost, so that every shifted image is made of long contiguous rows.
"""

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from rl_lr.recurrence import RECURRENT

Pair = tuple[int, int]


class StackedLayers(TorchFunctionMode):
    """Inside it, and under ``vmap``, the layers of this module answer where they apply."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Answer a call, or pass it on."""
        replacement = _REPLACEMENTS.get(func)
        answer = None if replacement is None else replacement(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {})) if answer is None else answer


def _pair(value: int | tuple[int, ...]) -> Pair:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


def _conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, ...] = 1,
    padding: int | str | tuple[int, ...] = 0,
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
) -> Tensor | None:
    """``torch.conv2d`` of one run, images ``[batch, channels, height, width]``."""
    if isinstance(padding, str) or x.dim() != 4 or x.device.type != "cpu":
        return None
    window = _Window(tuple(weight.shape[-2:]), _pair(stride), _pair(padding), _pair(dilation))  # type: ignore[arg-type]
    y: Tensor = _PerRun.apply(_Convolution, (window, groups), x, weight)  # type: ignore[no-untyped-call]
    return y if bias is None else y + bias[:, None, None]


def _max_pool2d(
    x: Tensor,
    kernel_size: int | tuple[int, ...],
    stride: int | tuple[int, ...] | None = None,
    padding: int | tuple[int, ...] = 0,
    dilation: int | tuple[int, ...] = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor | None:
    """``torch.nn.functional.max_pool2d`` of one run over windows that do not overlap."""
    plain = _pair(padding) == (0, 0) and _pair(dilation) == (1, 1) and not return_indices
    if not plain or not _tiles(x, _pair(kernel_size), stride):
        return None
    y: Tensor = _PerRun.apply(_MaxPool, (_pair(kernel_size),), x)  # type: ignore[no-untyped-call]
    return y


def _avg_pool2d(
    x: Tensor,
    kernel_size: int | tuple[int, ...],
    stride: int | tuple[int, ...] | None = None,
    padding: int | tuple[int, ...] = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor | None:
    """``torch.nn.functional.avg_pool2d`` of one run over windows that do not overlap."""
    if _pair(padding) != (0, 0) or divisor_override or not _tiles(x, _pair(kernel_size), stride):
        return None
    y: Tensor = _PerRun.apply(_MeanPool, (_pair(kernel_size),), x)  # type: ignore[no-untyped-call]
    return y


def _tiles(x: Tensor, size: Pair, stride: int | tuple[int, ...] | None) -> bool:
    """Whether windows of this size cover images ``[batch, channels, height, width]`` side by side."""
    apart = not stride or _pair(stride) == size
    fits = x.dim() == 4 and x.shape[-2] % size[0] == 0 and x.shape[-1] % size[1] == 0
    return apart and fits and x.device.type == "cpu"


_REPLACEMENTS: dict[Any, Callable[..., Any]] = RECURRENT | {
    torch.conv2d: _conv2d,
    torch.nn.functional.max_pool2d: _max_pool2d,
    torch.max_pool2d: _max_pool2d,
    torch.nn.functional.avg_pool2d: _avg_pool2d,
}


class _PerRun(torch.autograd.Function):
    """Hands what one run computes under ``vmap`` to a function of all runs, ``[runs, ...]``."""

    @staticmethod
    def forward(stacked: Any, settings: tuple[Any, ...], *tensors: Tensor) -> Tensor:
        """A run outside ``vmap`` is a stack of one."""
        y: Tensor = stacked.apply(*settings, *(t[None] for t in tensors))[0]
        return y

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Under ``vmap``, autograd sees the function of all runs instead."""

    @staticmethod
    def vmap(info: Any, in_dims: Any, stacked: Any, settings: tuple[Any, ...], *tensors: Tensor) -> Any:
        """All runs at once; what they share is repeated."""
        rows = [
            t.expand(info.batch_size, *t.shape) if dim is None else t.movedim(dim, 0)
            for t, dim in zip(tensors, in_dims[2:], strict=True)
        ]
        return stacked.apply(*settings, *rows), 0


class _Window:
    """How the kernel of a convolution slides over an image."""

    def __init__(self, size: Pair, stride: Pair, padding: Pair, dilation: Pair) -> None:
        self.size, self.stride, self.padding, self.dilation = size, stride, padding, dilation

    def outputs(self, height: int, width: int) -> Pair:
        """Height and width of the result."""
        rows, columns = (
            (length + 2 * p - d * (k - 1) - 1) // s + 1
            for length, k, s, p, d in zip(
                (height, width), self.size, self.stride, self.padding, self.dilation, strict=True
            )
        )
        return rows, columns

    def shifts(self, padded: Tensor, height: int, width: int) -> Iterator[Tensor]:
        """For each place in the kernel, what it meets: views ``[..., out_h, out_w, batch]``."""
        (sh, sw), (dh, dw) = self.stride, self.dilation
        rows, columns = self.outputs(height, width)
        for i, j in product(range(self.size[0]), range(self.size[1])):
            down, across = i * dh, j * dw
            yield padded[
                ..., down : down + sh * (rows - 1) + 1 : sh, across : across + sw * (columns - 1) + 1 : sw, :
            ]

    def shifted(self, x: Tensor, stack: int) -> Tensor:
        """Images ``[runs, batch, channels, height, width]`` as the matrices that kernels multiply.

        ``[stack, channels · kh · kw · runs / stack, out_h · out_w · batch]``.
        """
        padded = x.new_zeros(self.padded(x.shape))
        self.inner(padded).copy_(x.permute(0, 2, 3, 4, 1))
        pieces = torch.stack(list(self.shifts(padded, *x.shape[-2:])), dim=2)
        return pieces.view(stack, -1, pieces[0, 0, 0].numel())

    def padded(self, images: torch.Size) -> tuple[int, ...]:
        """Shape of the padded images, batch innermost."""
        runs, batch, channels, height, width = images
        return (runs, channels, height + 2 * self.padding[0], width + 2 * self.padding[1], batch)

    def inner(self, padded: Tensor) -> Tensor:
        """The images inside their padding, a view."""
        (ph, pw), (height, width) = self.padding, padded.shape[2:4]
        return padded[:, :, ph : height - ph, pw : width - pw]


class _Convolution(torch.autograd.Function):
    """Convolution of all runs: weights times the matrix of shifted images.

    ``x [runs, batch, channels, height, width]``, ``weight [runs, out, channels / groups, kh, kw]``.
    """

    @staticmethod
    def forward(ctx: Any, window: _Window, groups: int, x: Tensor, weight: Tensor) -> Tensor:
        """The images' batch becomes the innermost dimension, and stays so in the result."""
        runs, batch = x.shape[:2]
        shifted = window.shifted(x, runs * groups)
        kernel = weight.reshape(runs * groups, weight.shape[1] // groups, -1)
        ctx.save_for_backward(x, weight, shifted)
        ctx.window, ctx.groups = window, groups
        y = torch.bmm(kernel, shifted).view(runs, weight.shape[1], *window.outputs(*x.shape[-2:]), batch)
        return y.permute(0, 4, 1, 2, 3)

    @staticmethod
    def backward(ctx: Any, outward: Tensor) -> Any:
        """∂weight = ∂y · shiftedᵀ; ∂x = the shifts of weightᵀ · ∂y, added up."""
        x, weight, shifted = ctx.saved_tensors
        window, stack = ctx.window, len(shifted)
        if torch.is_grad_enabled():  # a second derivative must see how it came from x
            shifted = window.shifted(x, stack)
        flat = outward.permute(0, 2, 3, 4, 1).reshape(stack, weight.shape[1] // ctx.groups, -1)
        to_weight = torch.bmm(flat, shifted.mT).view(weight.shape)
        if not ctx.needs_input_grad[2]:
            return None, None, None, to_weight
        runs, batch, channels, height, width = x.shape
        kernel = weight.reshape(stack, flat.shape[1], -1)
        pieces = torch.bmm(kernel.mT, flat).view(runs, channels, -1, *outward.shape[-2:], batch)
        padded = flat.new_zeros(window.padded(x.shape))
        for shift, piece in zip(window.shifts(padded, height, width), pieces.unbind(2), strict=True):
            shift += piece
        return None, None, window.inner(padded).permute(0, 4, 1, 2, 3), to_weight


class _MaxPool(torch.autograd.Function):
    """Maximum over windows that do not overlap, ``x [runs, batch, channels, height, width]``."""

    @staticmethod
    def forward(ctx: Any, size: Pair, x: Tensor) -> Tensor:
        """The maximum of as many strided views as a window has places."""
        first, *others = _places(x, size)
        y = first
        for other in others:
            y = torch.maximum(y, other)
        ctx.save_for_backward(x, y)
        ctx.size = size
        return y

    @staticmethod
    def backward(ctx: Any, outward: Tensor) -> Any:
        """To the first place in each window that holds the maximum."""
        x, y = ctx.saved_tensors
        inward = torch.empty_like(x)
        left = outward
        for place, target in zip(_places(x, ctx.size), _places(inward, ctx.size), strict=True):
            # ``left`` where place - y ≥ 0: comparing and selecting by truth values is ten times slower.
            chosen = torch.ops.aten.threshold_backward(left, place - y, _JUST_BELOW_ZERO)
            target.copy_(chosen)
            left = left - chosen
        return None, inward


class _MeanPool(torch.autograd.Function):
    """Mean over windows that do not overlap, ``x [runs, batch, channels, height, width]``."""

    @staticmethod
    def forward(ctx: Any, size: Pair, x: Tensor) -> Tensor:
        """The mean of as many strided views as a window has places."""
        ctx.size, ctx.shape = size, x.shape
        first, *others = _places(x, size)
        total = first.clone()
        for other in others:
            total += other
        return total / (size[0] * size[1])

    @staticmethod
    def backward(ctx: Any, outward: Tensor) -> Any:
        """To every place alike; the result lies in memory as the mean's gradient does."""
        share = outward / (ctx.size[0] * ctx.size[1])
        wide = share.repeat_interleave(ctx.size[0], dim=-2).repeat_interleave(ctx.size[1], dim=-1)
        return None, wide


_JUST_BELOW_ZERO = -(2.0**-149)  # the float32 before 0


def _places(x: Tensor, size: Pair) -> Iterator[Tensor]:
    for i, j in product(range(size[0]), range(size[1])):
        yield x[..., i :: size[0], j :: size[1]]
