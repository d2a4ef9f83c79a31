"""How gradients pass back through the operators that exported speech models are made of."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from scipy.special import erf

from mqtool.observe.taps import conv_window

__all__ = ["NOT_DIFFERENTIABLE", "RULES", "AnyArray", "Array", "Outputs", "Rule", "Step"]

Array = NDArray[np.float32]
AnyArray = NDArray[np.generic]


@dataclass(frozen=True)
class Step:
    """A node with its inputs' values.

    Attributes:
        node: it.
        inputs: values; None for those left out.
        needed: whether the gradient by each input is wanted.
        values: of the whole graph, by name.
    """

    node: ir.Node
    inputs: Sequence[AnyArray | None]
    needed: Sequence[bool]
    values: Mapping[str, AnyArray]

    def array(self, index: int) -> Array:
        """The value of an input that is there."""
        array = self.inputs[index]
        assert array is not None
        return array  # type: ignore[return-value]

    def integers(self, index: int) -> list[int] | None:
        """The values of an optional input of integers."""
        if index >= len(self.inputs) or self.inputs[index] is None:
            return None
        return [int(number) for number in np.reshape(self.array(index), -1)]

    def integer(self, name: str, default: int) -> int:
        """An attribute."""
        attribute = self.node.attributes.get(name)
        return default if attribute is None else attribute.as_int()

    def number(self, name: str, default: float) -> float:
        """An attribute."""
        attribute = self.node.attributes.get(name)
        return default if attribute is None else attribute.as_float()

    def text(self, name: str, default: str) -> str:
        """An attribute."""
        attribute = self.node.attributes.get(name)
        return default if attribute is None else attribute.as_string()


Outputs = Sequence[Array | None]
Rule = Callable[[Step, Outputs], Sequence[Array | None]]
RULES: dict[str, Rule] = {}
NOT_DIFFERENTIABLE = {"Shape", "Size", "ArgMax", "Greater", "Less", "LessOrEqual", "Equal"}


def _rule(*operators: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        for operator in operators:
            RULES[operator] = rule
        return rule

    return register


def _summed(gradient: Array, shape: Sequence[int]) -> Array:
    """Sum over the axes along which an operand of `shape` was repeated."""
    extra = gradient.ndim - len(shape)
    axes = [*range(extra)]
    axes += [extra + axis for axis, size in enumerate(shape) if size == 1]
    summed: Array = gradient.sum(axis=tuple(axes), keepdims=True) if axes else gradient
    return summed.reshape(shape)


@_rule("Add", "Sub")
def _add(step: Step, outputs: Outputs) -> Outputs:
    gradient = _only(outputs)
    sign = np.float32(1 if step.node.op_type == "Add" else -1)
    return [
        _summed(gradient, step.array(0).shape) if step.needed[0] else None,
        _summed(sign * gradient, step.array(1).shape) if step.needed[1] else None,
    ]


@_rule("Mul")
def _mul(step: Step, outputs: Outputs) -> Outputs:
    gradient, left, right = _only(outputs), step.array(0), step.array(1)
    return [
        _summed(gradient * right, left.shape) if step.needed[0] else None,
        _summed(gradient * left, right.shape) if step.needed[1] else None,
    ]


@_rule("Div")
def _div(step: Step, outputs: Outputs) -> Outputs:
    gradient, left, right = _only(outputs), step.array(0), step.array(1)
    return [
        _summed(gradient / right, left.shape) if step.needed[0] else None,
        _summed(-gradient * left / (right * right), right.shape) if step.needed[1] else None,
    ]


@_rule("MatMul")
def _matmul(step: Step, outputs: Outputs) -> Outputs:
    gradient, left, right = _only(outputs), step.array(0), step.array(1)
    to_left = to_right = None
    if step.needed[0]:
        to_left = _summed(np.matmul(gradient, right.swapaxes(-1, -2)), left.shape)
    if step.needed[1]:
        to_right = _summed(np.matmul(left.swapaxes(-1, -2), gradient), right.shape)
    return [to_left, to_right]


@_rule("Conv")
def _conv(step: Step, outputs: Outputs) -> Outputs:
    """By the input: each tap of the kernel scatters back to where it read."""
    gradient, source, weight = _only(outputs), step.array(0), step.array(1)
    window = conv_window(step.node, weight.shape[2:])
    batch, channels = source.shape[:2]
    by_group = weight.reshape(window.groups, -1, *weight.shape[1:])
    spread = gradient.reshape(batch, window.groups, -1, *gradient.shape[2:])
    size = [n + sum(pad) for n, pad in zip(source.shape[2:], window.pads, strict=True)]
    padded = np.zeros((batch, channels, *size), np.float32)
    for tap in np.ndindex(*window.kernel):
        part = np.einsum("goc,bgo...->bgc...", by_group[(..., *tap)], spread, optimize=True)
        places = tuple(
            slice(at * dilation, at * dilation + (n - 1) * stride + 1, stride)
            for at, dilation, stride, n in zip(
                tap, window.dilations, window.strides, gradient.shape[2:], strict=True
            )
        )
        padded[(slice(None), slice(None), *places)] += part.reshape(
            batch, channels, *gradient.shape[2:]
        )
    inner = tuple(
        slice(low, low + n) for (low, _), n in zip(window.pads, source.shape[2:], strict=True)
    )
    return [padded[(slice(None), slice(None), *inner)]]


@_rule("Transpose")
def _transpose(step: Step, outputs: Outputs) -> Outputs:
    gradient = _only(outputs)
    attribute = step.node.attributes.get("perm")
    order = range(gradient.ndim)[::-1] if attribute is None else attribute.as_ints()
    return [gradient.transpose(np.argsort(order))]


@_rule("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Cast")
def _reshape(step: Step, outputs: Outputs) -> Outputs:
    return [_only(outputs).reshape(step.array(0).shape)]


@_rule("Expand")
def _expand(step: Step, outputs: Outputs) -> Outputs:
    return [_summed(_only(outputs), step.array(0).shape)]


@_rule("Concat")
def _concat(step: Step, outputs: Outputs) -> Outputs:
    axis = step.integer("axis", 0)
    sizes = [step.array(index).shape[axis] for index in range(len(step.inputs))]
    return np.split(_only(outputs), np.cumsum(sizes)[:-1], axis=axis)


@_rule("Split")
def _split(step: Step, outputs: Outputs) -> Outputs:
    axis, source = step.integer("axis", 0), step.array(0)
    count = len(outputs)
    sizes = step.integers(1) or [
        len(part) for part in np.array_split(range(source.shape[axis]), count)
    ]
    parts = []
    for size, gradient in zip(sizes, outputs, strict=True):
        shape = list(source.shape)
        shape[axis] = size
        parts.append(np.zeros(shape, np.float32) if gradient is None else gradient)
    return [np.concatenate(parts, axis=axis)]


@_rule("Slice")
def _slice(step: Step, outputs: Outputs) -> Outputs:
    source = step.array(0)
    starts, ends = step.integers(1) or [], step.integers(2) or []
    axes = step.integers(3) or [*range(len(starts))]
    steps = step.integers(4) or [1] * len(starts)
    places = [slice(None)] * source.ndim
    for axis, start, end, stride in zip(axes, starts, ends, steps, strict=True):
        bound: int | None = end
        if stride < 0 and end < -source.shape[axis]:
            bound = None
        places[axis] = slice(start, bound, stride)
    spread = np.zeros(source.shape, np.float32)
    spread[tuple(places)] = _only(outputs)
    return [spread]


@_rule("Pad")
def _pad(step: Step, outputs: Outputs) -> Outputs:
    source, pads = step.array(0), step.integers(1) or []
    axes = step.integers(3) or [*range(source.ndim)]
    places = [slice(None)] * source.ndim
    for axis, low in zip(axes, pads, strict=False):
        places[axis] = slice(low, low + source.shape[axis])
    return [_only(outputs)[tuple(places)]]


@_rule("Gather")
def _gather(step: Step, outputs: Outputs) -> Outputs:
    source, axis = step.array(0), step.integer("axis", 0)
    spread = np.zeros(source.shape, np.float32)
    np.add.at(
        np.moveaxis(spread, axis, 0),
        np.asarray(step.array(1), np.int64),
        np.moveaxis(
            _only(outputs), [*range(axis, axis + step.array(1).ndim)], [*range(step.array(1).ndim)]
        ),
    )
    return [spread]


@_rule("Where")
def _where(step: Step, outputs: Outputs) -> Outputs:
    gradient, chosen = _only(outputs), step.array(0)
    return [
        None,
        _summed(np.where(chosen, gradient, np.float32(0)), step.array(1).shape),
        _summed(np.where(chosen, np.float32(0), gradient), step.array(2).shape),
    ]


@_rule("ReduceMean", "ReduceSum")
def _reduce(step: Step, outputs: Outputs) -> Outputs:
    gradient, source = _only(outputs), step.array(0)
    axes = step.integers(1) or [*range(source.ndim)]
    axes = [axis % source.ndim for axis in axes]
    kept = [1 if axis in axes else size for axis, size in enumerate(source.shape)]
    count = prod(source.shape[axis] for axis in axes)
    factor = np.float32(1 / count if step.node.op_type == "ReduceMean" else 1)
    return [np.broadcast_to(gradient.reshape(kept) * factor, source.shape)]


@_rule("Softmax")
def _softmax(step: Step, outputs: Outputs) -> Outputs:
    gradient, axis = _only(outputs), step.integer("axis", -1)
    shifted = np.exp(step.array(0) - step.array(0).max(axis=axis, keepdims=True))
    shifted /= shifted.sum(axis=axis, keepdims=True)
    inner = (gradient * shifted).sum(axis=axis, keepdims=True)
    return [shifted * (gradient - inner)]


@_rule("Gelu")
def _gelu(step: Step, outputs: Outputs) -> Outputs:
    x = step.array(0)
    if step.text("approximate", "none") == "tanh":
        root = np.float32(np.sqrt(2 / np.pi))
        curve = np.tanh(root * (x + np.float32(0.044715) * x**3))
        inner = root * (1 + np.float32(3 * 0.044715) * x * x)
        slope = 0.5 * (1 + curve) + 0.5 * x * (1 - curve * curve) * inner
    else:
        density = np.exp(-0.5 * x * x) * np.float32(1 / np.sqrt(2 * np.pi))
        slope = 0.5 * (1 + erf(x * np.float32(np.sqrt(0.5)))) + x * density
    return [_only(outputs) * slope.astype(np.float32)]


@_rule("Relu")
def _relu(step: Step, outputs: Outputs) -> Outputs:
    return [_only(outputs) * (step.array(0) > 0)]


@_rule("Sigmoid")
def _sigmoid(step: Step, outputs: Outputs) -> Outputs:
    y = (1 / (1 + np.exp(-step.array(0)))).astype(np.float32)
    return [_only(outputs) * y * (1 - y)]


@_rule("Tanh")
def _tanh(step: Step, outputs: Outputs) -> Outputs:
    y = np.tanh(step.array(0))
    return [_only(outputs) * (1 - y * y)]


@_rule("Erf")
def _erf(step: Step, outputs: Outputs) -> Outputs:
    x = step.array(0)
    slope = np.exp(-x * x) * np.float32(2 / np.sqrt(np.pi))
    return [_only(outputs) * slope]


@_rule("Neg")
def _neg(step: Step, outputs: Outputs) -> Outputs:
    return [-_only(outputs)]


@_rule("Sqrt")
def _sqrt(step: Step, outputs: Outputs) -> Outputs:
    return [_only(outputs) / (2 * np.sqrt(step.array(0)))]


@_rule("LayerNormalization")
def _layer_normalization(step: Step, outputs: Outputs) -> Outputs:
    x = step.array(0)
    axes = tuple(range(step.integer("axis", -1) % x.ndim, x.ndim))
    return [_normalized(x, _only(outputs) * step.array(1), axes, step.number("epsilon", 1e-5))]


@_rule("InstanceNormalization")
def _instance_normalization(step: Step, outputs: Outputs) -> Outputs:
    x = step.array(0)
    scale = step.array(1).reshape(1, -1, *[1] * (x.ndim - 2))
    axes = tuple(range(2, x.ndim))
    return [_normalized(x, _only(outputs) * scale, axes, step.number("epsilon", 1e-5))]


@_rule("GroupNormalization")
def _group_normalization(step: Step, outputs: Outputs) -> Outputs:
    x, groups = step.array(0), step.integer("num_groups", 1)
    scale = step.array(1).reshape(1, -1, *[1] * (x.ndim - 2))
    grouped = (x.shape[0], groups, -1)
    gradient = (_only(outputs) * scale).reshape(grouped)
    found = _normalized(x.reshape(grouped), gradient, (2,), step.number("epsilon", 1e-5))
    return [found.reshape(x.shape)]


@_rule("BatchNormalization")
def _batch_normalization(step: Step, outputs: Outputs) -> Outputs:
    x = step.array(0)
    factor = step.array(1) / np.sqrt(step.array(4) + np.float32(step.number("epsilon", 1e-5)))
    return [_only(outputs) * factor.reshape(1, -1, *[1] * (x.ndim - 2))]


def _normalized(x: Array, gradient: Array, axes: tuple[int, ...], epsilon: float) -> Array:
    """Back through (x - mean) / sqrt(variance + epsilon), both taken over `axes`."""
    centred = x - x.mean(axis=axes, keepdims=True)
    variance = np.square(centred).mean(axis=axes, keepdims=True)
    inverse = 1 / np.sqrt(variance + np.float32(epsilon))
    unit = centred * inverse
    mean = gradient.mean(axis=axes, keepdims=True)
    along = (gradient * unit).mean(axis=axes, keepdims=True)
    result: Array = inverse * (gradient - mean - unit * along)
    return result


def _only(outputs: Outputs) -> Array:
    gradient = outputs[0]
    assert gradient is not None
    return gradient
