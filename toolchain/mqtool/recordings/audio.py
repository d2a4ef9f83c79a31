"""Decoding: any recording, a file or its bytes, to 16 kHz mono float32.

libsndfile decodes what it knows (WAV, FLAC, Ogg, MP3, ...), FFmpeg the rest, both a block at a
time: the only whole copy of a recording in memory is the one returned.
"""

from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from mqtool.errors import AudioError
from mqtool.recordings import ffmpeg

__all__ = ["ENDINGS", "SAMPLE_RATE", "audio_seconds", "read_pcm"]

SAMPLE_RATE = 16000

ENDINGS = frozenset(
    {
        *(".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".rf64", ".tta", ".w64", ".wav", ".wv"),
        *(".aac", ".ac3", ".amr", ".ape", ".awb", ".eac3", ".m4a", ".m4b", ".mka", ".mp2", ".mp3"),
        *(".oga", ".ogg", ".opus", ".spx", ".weba", ".wma"),
        *(".3g2", ".3gp", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv"),
        *(".webm", ".wmv"),
    }
)
"""Of the files in a folder or zip that are taken for recordings: lossless, lossy, video."""

_BLOCK = 1 << 20  # samples of all channels

Float = NDArray[np.float32]


def read_pcm(path: Path, content: bytes | None = None) -> Float:
    """Read any recording that libsndfile or FFmpeg decodes: float32 [samples], mono, 16 kHz.

    Channels are averaged; other rates are resampled by soxr (high quality). Of a video the first
    audio stream is read.

    Args:
        path: the recording.
        content: its bytes, if it is not a file of its own; `path` then only names it in errors.

    Raises:
        AudioError: missing, not audio, encrypted, damaged, cut short, empty, or with NaN or
            infinite samples.
    """
    path = Path(path)
    pcm = bytearray()
    for block in _resampled(_mono(path, _blocks(path, content))):
        pcm += block.data
    if not pcm:
        raise AudioError(f"{path}: holds no samples at 16 kHz; remove it or record it again")
    return np.frombuffer(pcm, np.float32)


def audio_seconds(path: Path, content: bytes | None = None) -> float:
    """Length of a recording, from its header where the format has one; arguments as of `read_pcm`.

    Raises:
        AudioError: missing or not audio; where the length has to be counted, see `read_pcm`.
    """
    import soundfile

    path = Path(path)
    _check_not_empty(path, content)
    try:
        return float(soundfile.info(_source(path, content)).duration)
    except _not_for_libsndfile():
        with _binary_file(path, content) as file:
            return ffmpeg.duration(str(path), file)


def _resampled(blocks: Iterable[tuple[Float, int]]) -> Iterator[Float]:
    """Mono blocks of any one rate at `SAMPLE_RATE`."""
    import soxr

    resampler = None
    for block, rate in blocks:
        if rate == SAMPLE_RATE:
            yield block
            continue
        if resampler is None:
            resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
        yield resampler.resample_chunk(block)
    if resampler is not None:
        yield resampler.resample_chunk(np.empty(0, np.float32), last=True)


def _mono(path: Path, blocks: Iterable[tuple[Float, int]]) -> Iterator[tuple[Float, int]]:
    """Channels averaged: [samples, channels] to [samples]."""
    for block, rate in blocks:
        if not np.isfinite(block).all():
            raise AudioError(f"{path}: holds NaN or infinite samples; remove it or record it again")
        yield (block[:, 0] if block.shape[1] == 1 else block.mean(axis=1)), rate


def _blocks(path: Path, content: bytes | None) -> Iterator[tuple[Float, int]]:
    """Decoded blocks [samples, channels] and their rate in Hz."""
    import soundfile

    _check_not_empty(path, content)
    try:
        opened = soundfile.SoundFile(_source(path, content))
    except _not_for_libsndfile():
        with _binary_file(path, content) as file:
            yield from ffmpeg.decode_blocks(str(path), file)
        return
    with opened:
        size = max(_BLOCK // opened.channels, 1)
        try:
            if opened.seekable():
                opened.seek(0)  # as soundfile.read does: the last bit of MP3 depends on it
            while len(block := opened.read(size, dtype="float32", always_2d=True)):
                yield block, opened.samplerate
        except soundfile.LibsndfileError as error:
            reason = error.error_string.removesuffix(".")
            raise AudioError(
                f"{path}: is not a readable recording ({reason}); remove it or convert it again"
            ) from None


def _not_for_libsndfile() -> tuple[type[Exception], ...]:
    """What soundfile raises of a format it does not know; TypeError by its name alone (.raw)."""
    import soundfile

    return soundfile.LibsndfileError, TypeError


def _check_not_empty(path: Path, content: bytes | None) -> None:
    if content is None and not path.is_file():
        raise AudioError(f"{path}: no such file")
    if not (path.stat().st_size if content is None else content):
        raise AudioError(f"{path}: is an empty file; remove it or record it again")


def _source(path: Path, content: bytes | None) -> str | BytesIO:
    return str(path) if content is None else BytesIO(content)


def _binary_file(path: Path, content: bytes | None) -> BinaryIO:
    if content is not None:
        return BytesIO(content)
    try:
        return path.open("rb")
    except OSError as error:
        raise AudioError(f"{path}: cannot be read ({error.strerror})") from None
