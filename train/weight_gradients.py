"""Gradients of 3 x 3 convolutions' weights as matrix products, on CPUs where oneDNN's kernel is slow.

On processors without AVX-512 that kernel runs at a third to a half of the speed of the rest of a convolution
(torch 2.11, maps in channels-last order), and was 44 % of Fast ResNet-34's step.

With places p of the maps, the gradient at the offset (i, j) is sum_p g[p] x[p + (i, j)], which is
sum_p g[p - (i, 0)] x[p + (0, j)]. So all nine are one product: of a matrix whose rows hold a place of g and
the ones above and below, with one whose rows hold a place of x and the ones to its left and right.
"""

from __future__ import annotations

from math import ceil
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

LEAST_CHANNELS = 32  # below, the product is too narrow to be quicker
_AT_ONCE = 3 << 20  # bytes of both matrices, which are to stay in a cache
_SUMS = 64 << 20  # bytes of sums, of which each thread has its own


def products_are_quicker() -> bool:
    """Whether this processor is of those on which oneDNN's kernel is slow."""
    return str(torch.backends.cpu.get_cpu_capability()) == "AVX2"


def by_products(network: nn.Module) -> None:
    """Let the convolutions of `network` that can, and gain by it, take their weights' gradients so, in place.

    Names, values and what convolutions give are as before; their gradients have none of their own. Maps that
    are not in channels-last order, or under autocast, go the usual way.
    """
    for module in network.modules():
        if type(module) is nn.Conv2d and _gains(module):
            module.__class__ = _Convolution


def _gains(convolution: nn.Conv2d) -> bool:
    form = (convolution.kernel_size, convolution.stride, convolution.padding, convolution.dilation)
    return (
        form == ((3, 3), (1, 1), (1, 1), (1, 1))
        and convolution.groups == 1
        and convolution.bias is None
        and convolution.padding_mode == "zeros"
        and min(convolution.in_channels, convolution.out_channels) >= LEAST_CHANNELS
    )


class _Convolution(nn.Conv2d):
    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        suits = (
            weight.requires_grad
            and torch.is_grad_enabled()
            and input.dtype == weight.dtype
            and weight.dtype in (torch.float32, torch.float64)
            and input.numel() > 0
            and not torch.is_autocast_enabled(input.device.type)
            and input.is_contiguous(memory_format=torch.channels_last)
        )
        return _Convolve.apply(input, weight) if suits else super()._conv_forward(input, weight, bias)


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, maps: Tensor, weight: Tensor) -> Tensor:
        context.save_for_backward(maps, weight)
        return nn.functional.conv2d(maps, weight, padding=1)

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        maps, weight = context.saved_tensors
        of_maps, of_weight = context.needs_input_grad
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        pair, once = [1, 1], (False, [0, 0], 1)
        return (
            torch.ops.aten.convolution_backward(
                gradient, maps, weight, None, pair, pair, pair, *once, [True, False, False]
            )[0]
            if of_maps
            else None,
            weight_gradient(maps, gradient) if of_weight else None,
        )


def weight_gradient(maps: Tensor, gradient: Tensor) -> Tensor:
    """The gradient of the weights of a 3 x 3 convolution of stride 1 with a padding of 1.

    maps: (batch, in, height, width), what was convolved; gradient: (batch, out, height, width), of what came
    of it; both float32 or float64, in channels-last order. Returns (out, in, 3, 3).
    """
    maps, gradient = maps.permute(0, 2, 3, 1), gradient.permute(0, 2, 3, 1)
    count, height, width, inner = maps.shape
    outer = gradient.shape[3]
    # Threads share out whole products better than the parts of a narrow one.
    streams = min(torch.get_num_threads(), count, max(1, _SUMS // (36 * inner * outer)))
    column = 12 * (inner + outer) * height  # bytes in both matrices
    columns = min(width, max(1, _AT_ONCE // column))
    chunks = ceil(count / (streams * max(1, _AT_ONCE // (column * width))))
    each = ceil(count / (streams * chunks))
    most = each * streams
    x, beside = _with_neighbours(maps, most, height, width)
    g, above = _with_neighbours(gradient, most, width, height)
    left = maps.new_empty(most * columns * height * 3 * outer)
    right = maps.new_empty(most * columns * height * 3 * inner)
    products = maps.new_zeros(streams, 3 * outer, 3 * inner)
    for first in range(0, count, most):
        number = min(most, count - first)
        x[:number] = maps[first : first + number]
        g[:number] = gradient[first : first + number].transpose(1, 2)
        g[number:] = 0  # what is left of the chunk before counts for nothing
        for begin in range(0, width, columns):
            part = slice(begin, begin + columns)
            torch.baddbmm(  # baddbmm_ is unknown to who counts operations
                products,
                _rows(above[:, part], left, streams).transpose(1, 2),
                _rows(beside[:, :, part].transpose(1, 2), right, streams),
                out=products,
            )
    # Of rows, the place below comes with the weights above it.
    return products.sum(0).view(3, outer, 3, inner).flip(0).permute(1, 3, 0, 2)


def _rows(values: Tensor, room: Tensor, streams: int) -> Tensor:
    """A copy of `values` at the beginning of `room`, as matrices; their columns are the last dimension's."""
    copied = room[: values.numel()].view(values.shape)
    copied.copy_(values)
    return copied.view(streams, -1, values.shape[-1])


def _with_neighbours(like: Tensor, count: int, lines: int, length: int) -> tuple[Tensor, Tensor]:
    """Room for `lines` lines of places of each of `count` maps, and a view of it with three places in a row.

    Returns (count, lines, length, channels) to fill, and (count, lines, length, 3 * channels), in which each
    place stands between the one before and the one after it in its line: zeros at the ends, which are padded.
    """
    channels = like.shape[3]
    pitch = (length + 1) * channels  # a line's end is the next one's beginning
    room = like.new_zeros(count * lines * pitch + channels)
    strides = (lines * pitch, pitch, channels, 1)
    places = room.as_strided((count, lines, length, channels), strides, channels)
    return places, room.as_strided((count, lines, length, 3 * channels), strides)
