"""Feature extraction as ONNX graphs, so that a device passes PCM and cannot compute it differently.

Whisper's log-mel spectrogram is a strided convolution with windowed cosines and sines. Its kernels
(643 KB) and the mel filters (64 to 103 KB, 98 % zeros) are not stored: a few operators compute the
former from the integers k n mod 400 and scatter the non-zero filters, and onnxruntime folds both
when it loads the graph.
"""

import math
from string import Template
from typing import Any

import numpy as np
import onnx_ir as ir

from mqtool.exporters.graphs import OPSET, prepend

__all__ = ["SAMPLES_PER_FRAME", "mel_filters", "prepend_log_mel"]

SAMPLES_PER_FRAME = 320
"""Samples of one encoder frame: a hop of 160, then a convolution of stride 2."""

_LOG_MEL = Template(
    """
<ir_version: 10, opset_import: ["": $opset]>
log_mel (float[batch, samples] pcm, float[k] mel_values, int32[k] mel_places)
    => (float[batch, $mels, frames] features)
{
    # sin(2 pi m / 400) for m = k n, and for m + 100, which is the cosine. In double: angles in
    # float32 triple the error of the features.
    zero = Constant <value_int: int = 0> ()
    one = Constant <value_int: int = 1> ()
    quarter_turn = Constant <value_int: int = 100> ()
    full_turn = Constant <value_int: int = 400> ()
    bins = Constant <value_int: int = 201> ()
    second_axis = Constant <value: tensor = int64[1] {1}> ()
    step = Constant <value: tensor = double {$step}> ()
    n = Range (zero, full_turn, one)
    k = Range (zero, bins, one)
    k_column = Unsqueeze (k, second_axis)
    sine_turns = Mul (k_column, n)
    cosine_turns = Add (sine_turns, quarter_turn)
    turns = Concat <axis: int = 0> (cosine_turns, sine_turns)
    turns_left = Mod (turns, full_turn)
    turns_double = Cast <to: int = 11> (turns_left)
    angles = Mul (turns_double, step)
    waves = Sin (angles)

    # Hann window, periodic: 0.5 - 0.5 cos(2 pi n / 400) = sin(pi n / 400) ^ 2.
    n_double = Cast <to: int = 11> (n)
    half = Constant <value: tensor = double {0.5}> ()
    half_step = Mul (step, half)
    half_angles = Mul (n_double, half_step)
    half_sines = Sin (half_angles)
    window = Mul (half_sines, half_sines)
    windowed = Mul (waves, window)
    windowed_float = Cast <to: int = 1> (windowed)
    kernels = Unsqueeze (windowed_float, second_axis)

    mel_size = Constant <value: tensor = int64[1] {$mel_size}> ()
    mel_shape = Constant <value: tensor = int64[2] {$mels, 201}> ()
    mel_zeros = ConstantOfShape (mel_size)
    mel_flat = ScatterElements <axis: int = 0> (mel_zeros, mel_places, mel_values)
    mel_filters = Reshape (mel_flat, mel_shape)

    # 200 reflected samples on each side give samples / 160 + 1 frames of which Whisper drops the
    # last one: 160 fewer on the right leave it out.
    pads = Constant <value: tensor = int64[6] {0, 0, 200, 0, 0, 40}> ()
    signal = Unsqueeze (pcm, second_axis)
    padded = Pad <mode: string = "reflect"> (signal, pads)
    spectrum = Conv <strides: ints = [160]> (padded, kernels)
    squares = Mul (spectrum, spectrum)
    real_square, imaginary_square = Split <axis: int = 1, num_outputs: int = 2> (squares)
    power = Add (real_square, imaginary_square)
    mel = MatMul (mel_filters, power)

    least = Constant <value_float: float = 1e-10> ()
    per_log10 = Constant <value_float: float = $per_log10> ()
    eight = Constant <value_float: float = 8.0> ()
    four = Constant <value_float: float = 4.0> ()
    quarter = Constant <value_float: float = 0.25> ()
    item_axes = Constant <value: tensor = int64[2] {1, 2}> ()
    positive = Max (mel, least)
    natural = Log (positive)
    decibel = Mul (natural, per_log10)
    peak = ReduceMax <keepdims: int = 1> (decibel, item_axes)
    floor = Sub (peak, eight)
    clamped = Max (decibel, floor)
    raised = Add (clamped, four)
    features = Mul (raised, quarter)
}
"""
)


def prepend_log_mel(model: ir.Model, filters: np.ndarray) -> None:
    """Make a graph that takes Whisper features take PCM.

    Args:
        model: input `features`, float32 [batch, mels, frames]; becomes `pcm`, float32
            [batch, samples] with samples a multiple of 320.
        filters: mel filter bank, [201, mels].
    """
    bank = np.ascontiguousarray(filters.T, np.float32)
    places = np.flatnonzero(bank).astype(np.int32)
    text = _LOG_MEL.substitute(
        opset=OPSET,
        mels=len(bank),
        mel_size=bank.size,
        step=repr(2 * math.pi / 400),
        per_log10=repr(1 / math.log(10)),
    )
    prepend(model, text, {"mel_values": bank.reshape(-1)[places], "mel_places": places})


def mel_filters(mels: int) -> np.ndarray:
    """Whisper's mel filter bank, float64 [201, mels]."""
    from transformers import WhisperFeatureExtractor

    extractor: Any = WhisperFeatureExtractor
    filters: np.ndarray = extractor(feature_size=mels).mel_filters
    return filters
