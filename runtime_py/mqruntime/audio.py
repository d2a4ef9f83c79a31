"""Read WAV files with nothing but the standard library and numpy, a block at a time.

Format: RIFF ("Multimedia Programming Interface and Data Specifications 1.0", 1991), chunks `fmt `
and `data`; WAVE_FORMAT_EXTENSIBLE carries the real format in the first two bytes of its GUID. What
follows the data is not read. A data chunk whose length nobody knew when it was begun, as pipes
write it, goes to the end of the file: of `_UNKNOWN` bytes or more, or of 0 where the length of the
whole is 0 or `_UNKNOWN` or more too.

Other formats are not decoded here: convert them to WAV, or install mqtool, whose
`mqtool.recordings.audio.read_pcm` decodes them.
"""

import os
import struct
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

import numpy as np

from mqruntime.errors import AudioError
from mqruntime.mono import FASTEST, check_range, read_mono
from mqruntime.resampling import resample, resampled

__all__ = ["checked_pcm", "load", "parse", "read", "resample"]

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_UNKNOWN = 0x7FFFF000
_BLOCK = 1 << 18  # samples of all channels
_MOST_PIPED = 1 << 32
"""Bytes: the sizes in a WAV file have 32 bits."""


def load(path: str | os.PathLike[str], rate: int = 16000) -> np.ndarray:
    """Read a WAV file as `Recognizer` takes it: mono, at the model's rate.

    Examples:
        >>> pcm = mqruntime.load("hello.wav")
        >>> pcm.dtype.name, pcm.ndim, round(len(pcm) / 16000, 1)
        ('float32', 1, 2.5)

    Args:
        path: of the file or pipe, - for stdin: 8-, 16-, 24- or 32-bit integers or 32- or 64-bit
            floats, 1 Hz to 384 kHz.
        rate: wanted, in Hz; a model's is `Recognizer.manifest.sample_rate`.

    Returns:
        float32 [samples] in [-1, 1], the mean of the channels; where that has lost most of the
        power, as of channels in antiphase, the loudest.

    Raises:
        AudioError: the file is missing, not WAV, truncated, empty, compressed, over 8 hours long,
            or holds samples that are NaN, infinite or on the scale of integers.
    """
    with _opened(path) as file:
        wav = _Wav(str(path), file)
        return read_mono(str(path), wav.blocks, lambda blocks: _at_rate(blocks, wav.rate, rate))


def read(path: str | os.PathLike[str]) -> tuple[np.ndarray, int]:
    """Read a WAV file: float32 [samples, channels] in [-1, 1], and its rate in Hz.

    Raises:
        AudioError: missing, or see `parse`.
    """
    with _opened(path) as file:
        return _whole(_Wav(str(path), file))


def parse(content: bytes, path: str) -> tuple[np.ndarray, int]:
    """Read the bytes of a WAV file; see `read`.

    Samples may be 8-, 16-, 24- or 32-bit integers or 32- or 64-bit floats.

    Args:
        content: the file.
        path: what to call it in errors.

    Raises:
        AudioError: not WAV, truncated, empty, a compressed format, or samples that are NaN,
            infinite or on the scale of integers.
    """
    return _whole(_Wav(path, BytesIO(content)))


def checked_pcm(pcm: np.ndarray, *, may_be_empty: bool = False) -> np.ndarray:
    """PCM as graphs take it, float32 [samples].

    Args:
        pcm: float [samples], mono.
        may_be_empty: whether there may be no samples.

    Raises:
        AudioError: it is empty, not one-dimensional float, or holds samples that are NaN, infinite
            or on the scale of integers.
    """
    pcm = np.asarray(pcm)
    if pcm.ndim != 1 or not np.issubdtype(pcm.dtype, np.floating):
        raise AudioError(f"PCM is {pcm.dtype} {list(pcm.shape)}; give float [samples], mono")
    if not len(pcm) and not may_be_empty:
        raise AudioError("PCM holds no samples; give a recording that is not empty")
    with np.errstate(over="ignore", invalid="ignore"):
        pcm = np.ascontiguousarray(pcm, np.float32)
    if len(pcm):
        check_range("PCM", pcm)
    return pcm


class _Wav:
    """An opened WAV file.

    Raises:
        AudioError: it is not one, or one that cannot be read.
    """

    def __init__(self, path: str, file: BinaryIO) -> None:
        self.path, self.file = path, file
        self.length = file.seek(0, os.SEEK_END)
        file.seek(0)
        riff, whole, wave = struct.unpack("<4sI4s", file.read(12).ljust(12, b"\0"))
        if riff != b"RIFF" or wave != b"WAVE":
            raise AudioError(
                f"{path}: is not a WAV file; convert the recording to WAV, or install mqtool, "
                f"which reads other kinds"
            )
        piped = whole == 0 or whole >= _UNKNOWN
        chunks = self._chunks(piped)
        self.data, size = chunks.get(b"data", (0, 0))
        at, fmt_size = chunks.get(b"fmt ", (0, 0))
        if not self.data or fmt_size < 16:
            raise AudioError(f"{path}: has no format or no data chunk; record it again")
        file.seek(at)
        fmt = file.read(min(fmt_size, 26))
        self.kind, self.channels, self.rate, _, self.align, self.bits = struct.unpack_from(
            "<HHIIHH", fmt
        )
        if self.kind == _EXTENSIBLE and len(fmt) == 26:
            (self.kind,) = struct.unpack_from("<H", fmt, 24)
        if (
            not self.channels
            or not self.align
            or not 1 <= self.rate <= FASTEST
            or self.align * 8 != self.channels * self.bits
        ):
            raise AudioError(
                f"{path}: {self.channels} channels of {self.bits} bits at {self.rate} Hz make no "
                f"sense; convert the recording to WAV again"
            )
        self.frames = size // self.align
        _samples(path, self.kind, self.bits, b"")
        if not self.frames:
            raise AudioError(f"{path}: holds no samples; give a recording that is not empty")

    def blocks(self) -> Iterator[tuple[np.ndarray, int]]:
        """All samples, float32 [samples, channels], and their rate."""
        most = max(1, _BLOCK // self.channels)
        for start in range(0, self.frames, most):
            count = min(most, self.frames - start)
            self.file.seek(self.data + start * self.align)
            data = self.file.read(count * self.align)
            if len(data) < count * self.align:
                raise AudioError(f"{self.path}: was cut off while it was read; copy it again")
            samples = _samples(self.path, self.kind, self.bits, data)
            yield samples.reshape(-1, self.channels), self.rate

    def _chunks(self, piped: bool) -> dict[bytes, tuple[int, int]]:
        """Where the chunks are and their lengths, to the data; the first of each name counts."""
        chunks: dict[bytes, tuple[int, int]] = {}
        position = 12
        while position + 8 <= self.length and not {b"fmt ", b"data"} <= chunks.keys():
            self.file.seek(position)
            name, size = struct.unpack("<4sI", self.file.read(8))
            there = min(size, self.length - position - 8)
            if name == b"data" and (size >= _UNKNOWN or (size == 0 and piped)):
                there = self.length - position - 8 if there < size or not size else there
            elif there < size:
                raise AudioError(
                    f"{self.path}: is cut off, {repr(name)[2:-1].strip()} chunk has {there} of "
                    f"{size} bytes; copy it again"
                )
            chunks.setdefault(name, (position + 8, there))
            position += 8 + max(size, there) + size % 2
        return chunks


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file, or a copy of what comes through a pipe, to read anywhere in it; - is stdin."""
    try:
        with ExitStack() as stack:
            if str(path) == "-":
                if sys.stdin is None:  # closed by who started the program
                    raise AudioError("-: there is no stdin; give a file, or pipe a WAV file in")
                given: BinaryIO = sys.stdin.buffer
            else:
                given = stack.enter_context(Path(path).open("rb"))
            if given.seekable():
                yield given
                return
            yield _copy(str(path), given, stack.enter_context(TemporaryFile()))
    except OSError as error:
        raise AudioError(f"{path}: cannot be read ({error.strerror})") from None


def _copy(path: str, pipe: BinaryIO, copy: BinaryIO) -> BinaryIO:
    while block := pipe.read(_BLOCK):
        if copy.tell() + len(block) > _MOST_PIPED:
            raise AudioError(f"{path}: is over {_MOST_PIPED:,} bytes; give a shorter recording")
        copy.write(block)
    return copy


def _whole(wav: _Wav) -> tuple[np.ndarray, int]:
    samples = np.empty((wav.frames, wav.channels), np.float32)
    end = 0
    for block, _ in wav.blocks():
        check_range(wav.path, block)
        samples[end : end + len(block)] = block
        end += len(block)
    return samples, wav.rate


def _at_rate(
    blocks: Iterable[tuple[np.ndarray, int]], source_rate: int, rate: int
) -> Iterator[np.ndarray]:
    mono = (block for block, _ in blocks)
    return mono if source_rate == rate else resampled(mono, source_rate, rate)


def _samples(path: str, kind: int, bits: int, data: bytes) -> np.ndarray:
    if kind == _PCM and bits == 8:
        return (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / 128
    if kind == _PCM and bits == 16:
        return np.frombuffer(data, "<i2").astype(np.float32) / 2**15
    if kind == _PCM and bits == 24:
        wide = np.zeros((len(data) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        return (wide.view("<i4")[:, 0] / 2**31).astype(np.float32)
    if kind == _PCM and bits == 32:
        return (np.frombuffer(data, "<i4") / 2**31).astype(np.float32)
    if kind == _FLOAT and bits in (32, 64):
        with np.errstate(over="ignore"):
            return np.frombuffer(data, f"<f{bits // 8}").astype(np.float32)
    raise AudioError(
        f"{path}: WAV format {kind} with {bits} bits is not supported; convert it to 16-bit PCM"
    )
