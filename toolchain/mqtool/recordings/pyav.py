"""Recordings that libsndfile does not read (AAC, AMR, WMA, video, ...), through FFmpeg by PyAV.

The first audio stream is decoded, a block at a time. No file but the given one is ever opened: a
playlist that names others is refused.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mqtool.errors import AudioError

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer

__all__ = ["decode_blocks", "duration"]

BLOCK = 1 << 16
"""Samples of each channel in a block."""

_DECLARING = frozenset({"asf", "avi", "caf", "matroska", "mov"})
"""Containers whose header holds the duration; of others FFmpeg guesses it from the bit rate."""

_TOLERANCE = 0.5
"""Seconds that a recording may lack of its declared duration: codecs pad and trim."""


def decode_blocks(name: str, file: BinaryIO) -> Iterator[tuple[NDArray[np.float32], int]]:
    """Decode a recording: float32 [samples, channels] in blocks of `BLOCK`, and their rate in Hz.

    Args:
        name: what to call it in errors.
        file: seekable, at its start.

    Raises:
        AudioError: FFmpeg does not know the format, there is no audio stream, or it is encrypted,
            damaged, cut short or changes its rate or channels.
    """
    from av import AudioResampler

    # Interleaved: PyAV 18 crashes on the planes of eight channels and more.
    converter = AudioResampler(format="flt", frame_size=BLOCK)
    with _opened(name, file) as (container, stream):
        for frame in chain(_frames(name, container, stream), [None]):
            try:
                blocks = converter.resample(frame)
            except ValueError:
                raise AudioError(
                    f"{name}: changes its rate or channels midway; convert it to WAV or FLAC"
                ) from None
            for block in blocks:
                samples = np.asarray(block.to_ndarray(), np.float32)
                yield samples.reshape(block.samples, -1), block.sample_rate


def duration(name: str, file: BinaryIO) -> float:
    """Seconds of a recording: as its container declares, else counted while decoding.

    Raises:
        AudioError: see `decode_blocks`.
    """
    with _opened(name, file) as (container, stream):
        declared = _declared_duration(container, stream)
        if declared is not None:
            return declared
        return sum(frame.samples / frame.sample_rate for frame in _frames(name, container, stream))


@contextmanager
def _opened(name: str, file: BinaryIO) -> Iterator[tuple["InputContainer", "AudioStream"]]:
    import av

    try:
        container = av.open(
            file, "r", options={"protocol_whitelist": "none"}, metadata_errors="replace"
        )
    except av.FFmpegError as error:
        reason = error.strerror or type(error).__name__
        raise AudioError(
            f"{name}: is not a readable recording ({reason}); copy it again, or convert it to WAV "
            f"or FLAC"
        ) from None
    with container:
        if not container.streams.audio:
            raise AudioError(f"{name}: has no audio stream; give a recording with sound")
        stream = container.streams.audio[0]
        if stream.codec_context is None:
            raise AudioError(f"{name}: has audio of an unknown codec; convert it to WAV or FLAC")
        yield container, stream


def _frames(
    name: str, container: "InputContainer", stream: "AudioStream"
) -> Iterator["AudioFrame"]:
    """All frames, decoded; a recording that is not whole to its end is an error."""
    from av import FFmpegError

    end = 0.0
    try:
        for packet in container.demux(stream):
            if packet.has_sidedata("encryption_info"):
                raise AudioError(f"{name}: is encrypted; give a copy without protection")
            for frame in packet.decode():
                start = end if frame.time is None else frame.time
                end = start + frame.samples / frame.sample_rate
                yield frame
    except FFmpegError:
        raise AudioError(
            f"{name}: is damaged or cut short after {end:.1f} s; copy it again, or convert it to "
            f"WAV or FLAC to keep what can be played"
        ) from None
    declared = _declared_duration(container, stream)
    if declared is not None and end < declared - _TOLERANCE:
        raise AudioError(
            f"{name}: is cut short, it ends after {end:.1f} of {declared:.1f} s; copy it again, or "
            f"convert it to WAV or FLAC to keep what can be played"
        )


def _declared_duration(container: "InputContainer", stream: "AudioStream") -> float | None:
    """Seconds of this stream by the container's header, None if it does not tell."""
    import av

    if container.format.name.split(",")[0] not in _DECLARING:
        return None
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    if container.duration and len(container.streams) == 1:
        return container.duration / av.time_base
    return None
