"""Kaldi's log-mel filter bank as an ONNX graph, as in transformers' SeamlessM4TFeatureExtractor.

A frame of 400 samples loses its mean, is pre-emphasized (each sample less 0.97 of the one before),
windowed (Povey's) and transformed. All of this is linear, so it is one product with kernels that a
few operators compute from the integers k n mod 512; onnxruntime folds them when it loads the graph.
The mean of a bin over time and its standard deviation are taken out at the end.
"""

import math
from string import Template
from typing import Any

import numpy as np
import onnx_ir as ir

from mqtool.exporters.graphs import OPSET, prepend

__all__ = ["FRAME", "HOP", "MELS", "prepend_filter_bank"]

FRAME, HOP = 400, 160
"""Samples of a frame, and from one frame to the next."""

MELS = 80

_FILTER_BANK = Template(
    """
<ir_version: 10, opset_import: ["": $opset]>
filter_bank (float[batch, samples] pcm, float[k] mel_values, int32[k] mel_places)
    => (float[batch, frames, 80] features)
{
    # sin(2 pi m / 512) for m = k n, and for m + 128, which is the cosine.
    zero = Constant <value_int: int = 0> ()
    one = Constant <value_int: int = 1> ()
    quarter_turn = Constant <value_int: int = 128> ()
    full_turn = Constant <value_int: int = 512> ()
    frame = Constant <value_int: int = 400> ()
    bins = Constant <value_int: int = 257> ()
    second_axis = Constant <value: tensor = int64[1] {1}> ()
    step = Constant <value: tensor = double {$step}> ()
    n = Range (zero, frame, one)
    k = Range (zero, bins, one)
    k_column = Unsqueeze (k, second_axis)
    sine_turns = Mul (k_column, n)
    cosine_turns = Add (sine_turns, quarter_turn)
    turns = Concat <axis: int = 0> (cosine_turns, sine_turns)
    turns_left = Mod (turns, full_turn)
    turns_double = Cast <to: int = 11> (turns_left)
    angles = Mul (turns_double, step)
    waves = Sin (angles)

    # Povey's window, sin(pi n / 399) ^ 1.7, times the 2^15 of 16-bit samples.
    n_double = Cast <to: int = 11> (n)
    half_step = Constant <value: tensor = double {$half_step}> ()
    exponent = Constant <value: tensor = double {1.7}> ()
    loudness = Constant <value: tensor = double {32768.0}> ()
    half_angles = Mul (n_double, half_step)
    half_sines = Sin (half_angles)
    window = Pow (half_sines, exponent)
    loud_window = Mul (window, loudness)
    windowed = Mul (waves, loud_window)

    # Pre-emphasis of samples is that of kernels the other way round; the window begins with zero,
    # so that the first sample, which has none before it, does not matter.
    emphasis = Constant <value: tensor = double {0.97}> ()
    begin = Constant <value: tensor = int64[2] {0, 1}> ()
    end = Constant <value: tensor = int64[2] {514, 400}> ()
    last_pads = Constant <value: tensor = int64[4] {0, 0, 0, 1}> ()
    later = Slice (windowed, begin, end)
    later_padded = Pad (later, last_pads)
    echoed = Mul (later_padded, emphasis)
    emphasized = Sub (windowed, echoed)
    kernel_mean = ReduceMean <keepdims: int = 1> (emphasized, second_axis)
    centered = Sub (emphasized, kernel_mean)
    kernels = Transpose <perm: ints = [1, 0]> (centered)

    mel_size = Constant <value: tensor = int64[1] {20560}> ()
    mel_shape = Constant <value: tensor = int64[2] {80, 257}> ()
    mel_zeros = ConstantOfShape (mel_size)
    mel_flat = ScatterElements <axis: int = 0> (mel_zeros, mel_places, mel_values)
    mel_filters_float = Reshape (mel_flat, mel_shape)
    mel_rows = Cast <to: int = 11> (mel_filters_float)
    mel_filters = Transpose <perm: ints = [1, 0]> (mel_rows)

    # No range of loudness is cut off, so that quiet bins count: all in double.
    length = Shape <start: int = 1> (pcm)
    no_axis = Constant <value: tensor = int64[0] {}> ()
    samples = Reshape (length, no_axis)
    but_last = Constant <value_int: int = 399> ()
    hop = Constant <value_int: int = 160> ()
    stop = Sub (samples, but_last)
    starts = Range (zero, stop, hop)
    start_column = Unsqueeze (starts, second_axis)
    places = Add (start_column, n)
    framed = Gather <axis: int = 1> (pcm, places)
    framed_double = Cast <to: int = 11> (framed)
    spectrum = MatMul (framed_double, kernels)
    squares = Mul (spectrum, spectrum)
    real_square, imaginary_square = Split <axis: int = 2, num_outputs: int = 2> (squares)
    power = Add (real_square, imaginary_square)
    mel = MatMul (power, mel_filters)
    least = Constant <value: tensor = double {1.1920928955078125e-07}> ()
    positive = Max (mel, least)
    log_mel_double = Log (positive)
    log_mel = Cast <to: int = 1> (log_mel_double)

    time_axis = Constant <value: tensor = int64[1] {1}> ()
    epsilon = Constant <value_float: float = 1e-7> ()
    one_float = Constant <value_float: float = 1.0> ()
    shape = Shape <start: int = 1, end: int = 2> (log_mel)
    count = Cast <to: int = 1> (shape)
    others = Sub (count, one_float)
    mean = ReduceMean <keepdims: int = 1> (log_mel, time_axis)
    deviations = Sub (log_mel, mean)
    deviation_squares = Mul (deviations, deviations)
    total = ReduceSum <keepdims: int = 1> (deviation_squares, time_axis)
    variance = Div (total, others)
    variance_above_zero = Add (variance, epsilon)
    deviation = Sqrt (variance_above_zero)
    features = Div (deviations, deviation)
}
"""
)


def prepend_filter_bank(model: ir.Model, filters: np.ndarray) -> None:
    """Make a graph that takes a filter bank's features take PCM.

    Args:
        model: input `features`, float32 [batch, frames, 80]; becomes `pcm`, float32
            [batch, samples], of 2 frames at least.
        filters: mel filters of the extractor, [257, 80].
    """
    bank = np.ascontiguousarray(filters.T, np.float32)
    places = np.flatnonzero(bank).astype(np.int32)
    text = _FILTER_BANK.substitute(
        opset=OPSET, step=repr(2 * math.pi / 512), half_step=repr(math.pi / 399)
    )
    constants: dict[str, Any] = {"mel_values": bank.reshape(-1)[places], "mel_places": places}
    prepend(model, text, constants)
