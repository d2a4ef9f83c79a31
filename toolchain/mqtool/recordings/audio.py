"""Decoding: any recording, a file or what is in a zip, to mono float32 at a model's rate.

libsndfile decodes what it knows (WAV, FLAC, Ogg, MP3, ...) and knows the length of, FFmpeg the
rest, both a block at a time: the only whole copy of a recording in memory is the one returned.

soxr (high quality) resamples. Rates so odd that a filter for each phase would take much memory,
those with more than `mqruntime.resampling.MOST_PHASES`, are resampled as mqruntime does, to the
same samples.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from io import FileIO
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from mqruntime.mono import LONGEST, read_mono
from mqruntime.resampling import MOST_PHASES, phase_count, resampled
from mqtool.errors import AudioError
from mqtool.recordings import pyav

__all__ = ["ENDINGS", "SAMPLE_RATE", "audio_seconds", "read_pcm"]

SAMPLE_RATE = 16000
"""Hz, of most models."""

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

_BLOCK = 1 << 18  # samples of all channels
_ENDLESS = 1 << 62  # frames; libsndfile says so where it does not know

Float = NDArray[np.float32]


def read_pcm(
    path: Path,
    file: BinaryIO | None = None,
    longest: float | None = None,
    rate: int = SAMPLE_RATE,
) -> Float:
    """Read any recording that libsndfile or FFmpeg decodes: float32 [samples], mono.

    Channels are mixed as `mqruntime.mono` describes. Of a video the first audio stream is read.

    Args:
        path: the recording.
        file: seekable, if it is not a file of its own; `path` then only names it in errors.
        longest: seconds, at most and without it `LONGEST`.
        rate: of the samples, in Hz.

    Raises:
        AudioError: missing, not audio, encrypted, damaged, cut short, empty, too long, or with
            samples that are NaN, infinite or on the scale of integers.
    """
    with _opened(Path(path), file) as source:
        pcm: Float = read_mono(
            str(path),
            lambda: _blocks(path, source),
            partial(_resampled, wanted=rate),
            min(longest or LONGEST, LONGEST),
        )
    return pcm


def audio_seconds(path: Path, file: BinaryIO | None = None) -> float:
    """Length of a recording, from its header where the format has one; arguments as of `read_pcm`.

    Raises:
        AudioError: missing or not audio; where the length has to be counted, see `read_pcm`.
    """
    import soundfile

    with _opened(Path(path), file) as source:
        try:
            with soundfile.SoundFile(_source(source), closefd=False) as opened:
                if 0 < opened.frames < _ENDLESS:
                    return float(opened.frames / opened.samplerate)
        except (soundfile.LibsndfileError, TypeError):
            pass
        source.seek(0)
        return pyav.duration(str(path), source)


def _resampled(blocks: Iterator[tuple[Float, int]], wanted: int) -> Iterator[Float]:
    """Mono blocks of any one rate at another, in Hz."""
    first = next(blocks, None)
    if first is None:
        return
    rate = first[1]
    mono = (block for block, _ in chain([first], blocks))
    if rate == wanted:
        yield from mono
    elif phase_count(rate, wanted) > MOST_PHASES:
        yield from resampled(mono, rate, wanted)
    else:
        yield from _by_soxr(mono, rate, wanted)


def _by_soxr(blocks: Iterator[Float], rate: int, wanted: int) -> Iterator[Float]:
    import soxr

    resampler = soxr.ResampleStream(rate, wanted, 1, dtype="float32", quality="HQ")
    size = max(1, _BLOCK * rate // max(rate, wanted))
    for block in blocks:
        for start in range(0, len(block), size):
            yield resampler.resample_chunk(block[start : start + size])
    yield resampler.resample_chunk(np.empty(0, np.float32), last=True)


def _blocks(path: Path, file: BinaryIO) -> Iterator[tuple[Float, int]]:
    """Decoded blocks [samples, channels] and their rate in Hz."""
    import soundfile

    file.seek(0)
    try:
        opened = soundfile.SoundFile(_source(file), closefd=False)
    except (soundfile.LibsndfileError, TypeError):  # TypeError by its name alone (.raw)
        opened = None
    if opened is not None and not 0 < opened.frames < _ENDLESS:
        opened.close()
        opened = None
    if opened is None:
        file.seek(0)
        yield from pyav.decode_blocks(str(path), file)
        return
    with opened:
        size, end = max(_BLOCK // opened.channels, 1), 0
        try:
            if opened.seekable():
                opened.seek(0)  # as soundfile.read does: the last bit of MP3 depends on it
            while len(block := opened.read(size, dtype="float32", always_2d=True)):
                end += len(block)
                yield block, opened.samplerate
        except soundfile.LibsndfileError as error:
            reason = error.error_string.removesuffix(".")
            raise AudioError(
                f"{path}: is not a readable recording ({reason}); remove it or convert it again"
            ) from None
        if opened.format == "FLAC" and end < opened.frames:
            raise AudioError(
                f"{path}: is cut short, it ends after {end / opened.samplerate:.1f} of "
                f"{opened.frames / opened.samplerate:.1f} s; copy it again"
            )


def _source(file: BinaryIO | FileIO) -> BinaryIO | int:
    """What libsndfile reads: a descriptor where it can, as Ctrl-C in a callback reads as damage."""
    return file.fileno() if isinstance(file, FileIO) and os.name == "posix" else file


@contextmanager
def _opened(path: Path, file: BinaryIO | None) -> Iterator[BinaryIO | FileIO]:
    """The recording at its start, open; of what a zip holds, `file` itself."""
    if file is None:
        if not path.is_file():
            raise AudioError(f"{path}: no such file")
        try:
            with path.open("rb", buffering=0) as opened, _opened(path, opened) as source:
                yield source
        except OSError as error:
            raise AudioError(f"{path}: cannot be read ({error.strerror or error})") from None
        return
    if not file.seek(0, os.SEEK_END):
        raise AudioError(f"{path}: is an empty file; remove it or record it again")
    file.seek(0)
    yield file
