"""NeMo's log-mel features as an ONNX graph, as in transformers' ParakeetFeatureExtractor.

Samples are pre-emphasized, each less a share of the one before, and zeros put around them. A frame
is windowed (Hann's, symmetric) and transformed, which is one product with kernels that a few
operators compute from the integers k n; onnxruntime folds them when it loads the graph. Of each
mel bin the mean over time is taken out, and its standard deviation divided out.

transformers has one frame more, masks it, and leaves it out of everything that follows. Of a bin
that never changes, as in digital silence, its features are errors of rounding; here they are zero.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import onnx_ir as ir

from mqruntime.bundle.manifest import RATES
from mqtool.errors import ExportError
from mqtool.exporters.graphs import OPSET, prepend
from mqtool.exporters.sources.checks import refuse_front_end, stated_front_end

__all__ = ["FrontEnd", "prepend_log_mel", "read_front_end"]

_LOG_MEL = Template(
    """
<ir_version: 10, opset_import: ["": $opset]>
log_mel (float[batch, samples] pcm, float[k] mel_values, int32[k] mel_places)
    => (float[batch, frames, $mels] features)
{
    # sin(2 pi m / 4 fft) for m = 4 k n, and for m + fft, which is the cosine: onnxruntime has none
    # in double.
    zero = Constant <value_int: int = 0> ()
    one = Constant <value_int: int = 1> ()
    four = Constant <value_int: int = 4> ()
    quarter_turn = Constant <value_int: int = $fft> ()
    window_length = Constant <value_int: int = $window> ()
    bins = Constant <value_int: int = $bins> ()
    second_axis = Constant <value: tensor = int64[1] {1}> ()
    step = Constant <value: tensor = double {$step}> ()
    full_turn = Mul (quarter_turn, four)
    n = Range (zero, window_length, one)
    k = Range (zero, bins, one)
    quarters = Mul (k, four)
    k_column = Unsqueeze (quarters, second_axis)
    sine_turns = Mul (k_column, n)
    cosine_turns = Add (sine_turns, quarter_turn)
    turns = Concat <axis: int = 0> (cosine_turns, sine_turns)
    turns_left = Mod (turns, full_turn)
    turns_double = Cast <to: int = 11> (turns_left)
    angles = Mul (turns_double, step)
    waves = Sin (angles)

    # 0.5 - 0.5 cos(2 pi n / (length - 1)) = sin(pi n / (length - 1)) ^ 2.
    half_step = Constant <value: tensor = double {$half_step}> ()
    n_double = Cast <to: int = 11> (n)
    half_angles = Mul (n_double, half_step)
    half_sines = Sin (half_angles)
    hann = Mul (half_sines, half_sines)
    windowed = Mul (waves, hann)
    kernels = Transpose <perm: ints = [1, 0]> (windowed)

    mel_size = Constant <value: tensor = int64[1] {$mel_size}> ()
    mel_shape = Constant <value: tensor = int64[2] {$mels, $bins}> ()
    mel_zeros = ConstantOfShape (mel_size)
    mel_flat = ScatterElements <axis: int = 0> (mel_zeros, mel_places, mel_values)
    mel_filters_float = Reshape (mel_flat, mel_shape)
    mel_rows = Cast <to: int = 11> (mel_filters_float)
    mel_filters = Transpose <perm: ints = [1, 0]> (mel_rows)

    # In float, as the reference: these differences are what both start from.
    first = Constant <value: tensor = int64[1] {0}> ()
    last = Constant <value: tensor = int64[1] {-1}> ()
    delay = Constant <value: tensor = int64[4] {0, 1, 0, 0}> ()
    share = Constant <value_float: float = $preemphasis> ()
    all_but_last = Slice (pcm, first, last, second_axis)
    before = Pad (all_but_last, delay)
    echo = Mul (before, share)
    emphasized = Sub (pcm, echo)

    # In double: a bin that hardly changes is divided by how little it does.
    around = Constant <value: tensor = int64[4] {0, $left, 0, $right}> ()
    hop = Constant <value_int: int = $hop> ()
    no_axis = Constant <value: tensor = int64[0] {}> ()
    length = Shape <start: int = 1> (pcm)
    samples = Reshape (length, no_axis)
    frames = Div (samples, hop)
    stop = Mul (frames, hop)
    starts = Range (zero, stop, hop)
    start_column = Unsqueeze (starts, second_axis)
    places = Add (start_column, n)
    emphasized_double = Cast <to: int = 11> (emphasized)
    padded = Pad (emphasized_double, around)
    framed = Gather <axis: int = 1> (padded, places)
    spectrum = MatMul (framed, kernels)
    squares = Mul (spectrum, spectrum)
    real_square, imaginary_square = Split <axis: int = 2, num_outputs: int = 2> (squares)
    power = Add (real_square, imaginary_square)
    mel = MatMul (power, mel_filters)
    guard = Constant <value: tensor = double {$guard}> ()
    guarded = Add (mel, guard)
    log_mel = Log (guarded)

    epsilon = Constant <value: tensor = double {1e-05}> ()
    one_double = Constant <value: tensor = double {1.0}> ()
    count = Cast <to: int = 11> (frames)
    others = Sub (count, one_double)
    mean = ReduceMean <keepdims: int = 1> (log_mel, second_axis)
    deviations = Sub (log_mel, mean)
    deviation_squares = Mul (deviations, deviations)
    total = ReduceSum <keepdims: int = 1> (deviation_squares, second_axis)
    variance = Div (total, others)
    deviation = Sqrt (variance)
    divisor = Add (deviation, epsilon)
    normalized = Div (deviations, divisor)
    features = Cast <to: int = 1> (normalized)
}
"""
)

_GUARD = 2.0**-24
"""What transformers adds before it takes the logarithm."""

_LONGEST_FRAME = 1 << 12
_MOST_OVERLAP = 16
"""Frames that a sample is in: there are as many doubles a sample."""


@dataclass(frozen=True)
class FrontEnd:
    """Settings of a ParakeetFeatureExtractor.

    Attributes:
        rate: of the PCM, in Hz.
        mels: features of a frame.
        hop: samples from one frame to the next.
        fft: samples that are transformed.
        window: those of them that are not zero.
        preemphasis: share of the sample before that is taken out of each.
    """

    rate: int
    mels: int
    hop: int
    fft: int
    window: int
    preemphasis: float

    @property
    def min_samples(self) -> int:
        """Of two frames: one has no standard deviation."""
        return 2 * self.hop

    def extractor(self) -> Any:
        """The one of transformers with these settings."""
        from transformers import ParakeetFeatureExtractor

        extractor: Any = ParakeetFeatureExtractor
        return extractor(
            feature_size=self.mels,
            sampling_rate=self.rate,
            hop_length=self.hop,
            n_fft=self.fft,
            win_length=self.window,
            preemphasis=self.preemphasis,
        )


def read_front_end(folder: Path, mels: int) -> FrontEnd:
    """Settings of a folder's feature extractor.

    Args:
        folder: the model's.
        mels: features of a frame that its encoder takes.

    Raises:
        ExportError: they are missing, of another class than ParakeetFeatureExtractor, of another
            number of features, or such that it cannot compute any.
    """
    stated = stated_front_end(folder)
    known = {"feature_extractor_type": "ParakeetFeatureExtractor", "feature_size": mels}
    refuse_front_end(folder, {"feature_size": 80, **stated}, known)

    def number(name: str, default: int, least: int, most: int) -> int:
        value = stated.get(name, default)
        if type(value) is not int or not least <= value <= most:
            raise ExportError(
                f"{folder}: the feature extractor's {name} is {value!r}, not {least} to {most}; "
                "copy the file again"
            )
        return value

    share = stated.get("preemphasis", 0.97)
    if share is None:
        share = 0.0
    if type(share) not in (int, float) or not abs(share) <= 1:
        raise ExportError(
            f"{folder}: the feature extractor's preemphasis is {share!r}, not -1 to 1; copy the "
            "file again"
        )
    fft = number("n_fft", 512, 2, _LONGEST_FRAME)
    if fft % 2:
        raise ExportError(f"{folder}: the feature extractor's n_fft is {fft}, not an even number")
    window = number("win_length", 400, 2, fft)
    return FrontEnd(
        number("sampling_rate", 16000, RATES.start, RATES.stop - 1),
        mels,
        number("hop_length", 160, max(1, window // _MOST_OVERLAP), _LONGEST_FRAME),
        fft,
        window,
        float(share),
    )


def prepend_log_mel(model: ir.Model, front_end: FrontEnd) -> None:
    """Make a graph that takes log-mel features take PCM.

    Args:
        model: input `features`, float32 [batch, frames, mels]; becomes `pcm`, float32
            [batch, samples], of `min_samples` at least. There are samples // hop frames.
        front_end: the settings.
    """
    filters = np.ascontiguousarray(front_end.extractor().mel_filters.numpy(), np.float32)
    places = np.flatnonzero(filters).astype(np.int32)
    left = front_end.fft // 2 - (front_end.fft - front_end.window) // 2
    text = _LOG_MEL.substitute(
        opset=OPSET,
        mels=front_end.mels,
        hop=front_end.hop,
        fft=front_end.fft,
        window=front_end.window,
        bins=front_end.fft // 2 + 1,
        mel_size=filters.size,
        step=repr(math.pi / (2 * front_end.fft)),
        half_step=repr(math.pi / (front_end.window - 1)),
        preemphasis=repr(front_end.preemphasis),
        left=left,
        right=max(front_end.window - left - front_end.hop, 0),
        guard=repr(_GUARD),
    )
    prepend(model, text, {"mel_values": filters.reshape(-1)[places], "mel_places": places})
