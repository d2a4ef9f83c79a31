"""Read WAV files with nothing but the standard library and numpy.

Format: RIFF ("Multimedia Programming Interface and Data Specifications 1.0", 1991), chunks `fmt `
and `data`; WAVE_FORMAT_EXTENSIBLE carries the real format in the first two bytes of its GUID.

Resampling is by windowed sinc (Kaiser, 32 zero crossings), one filter per output phase. Measured
with sines at 8 to 96 kHz resampled to 16 kHz: up to 0.43 of the lower rate the largest error is
-91 dB, then the filter falls (-26 dB at 0.45, -7 dB at 0.47); aliases from 5 % above the new
Nyquist frequency and up stay under -91 dB. Other filters give slightly other samples: expect
agreement with audio libraries to that level, not bit by bit.
"""

import os
import struct
from math import ceil, gcd
from pathlib import Path

import numpy as np

from mqruntime.errors import AudioError

__all__ = ["checked_pcm", "load", "parse", "read", "resample"]

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_ZERO_CROSSINGS = 32
_ROLLOFF = 0.945  # of the Nyquist frequency: where the filter has fallen to a half
_BETA = 9.0
_BLOCK = 1 << 12  # outputs computed at once, to bound memory


def load(path: str | os.PathLike[str], rate: int = 16000) -> np.ndarray:
    """Read a WAV file as `Recognizer` takes it: mono, at the model's rate.

    Examples:
        >>> pcm = mqruntime.load("hello.wav")
        >>> pcm.dtype.name, pcm.ndim, round(len(pcm) / 16000, 1)
        ('float32', 1, 2.5)

    Args:
        path: of the file: 8-, 16-, 24- or 32-bit integers or 32- or 64-bit floats, any rate.
        rate: wanted, in Hz; a model's is `Recognizer.manifest.sample_rate`.

    Returns:
        float32 [samples] in [-1, 1], the mean of the channels.

    Raises:
        AudioError: the file is missing, not WAV, truncated, empty, compressed, or holds NaN or
            infinite samples.
    """
    pcm, source_rate = read(path)
    return resample(pcm.mean(axis=1), source_rate, rate)


def read(path: str | os.PathLike[str]) -> tuple[np.ndarray, int]:
    """Read a WAV file: float32 [samples, channels] in [-1, 1], and its rate in Hz.

    Raises:
        AudioError: missing, or see `parse`.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise AudioError(f"{path}: cannot be read ({error.strerror})") from None
    return parse(content, str(path))


def parse(content: bytes, path: str) -> tuple[np.ndarray, int]:
    """Read the bytes of a WAV file; see `read`.

    Samples may be 8-, 16-, 24- or 32-bit integers or 32- or 64-bit floats.

    Args:
        content: the file.
        path: what to call it in errors.

    Raises:
        AudioError: not WAV, truncated, empty, a compressed format, or NaN or infinite samples.
    """
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        raise AudioError(f"{path}: is not a WAV file; convert the recording to WAV")
    chunks = _chunks(path, content)
    if b"fmt " not in chunks or b"data" not in chunks or len(chunks[b"fmt "]) < 16:
        raise AudioError(f"{path}: has no format or no data chunk; record it again")
    kind, channels, rate, _, align, bits = struct.unpack_from("<HHIIHH", chunks[b"fmt "])
    if kind == _EXTENSIBLE and len(chunks[b"fmt "]) >= 26:
        (kind,) = struct.unpack_from("<H", chunks[b"fmt "], 24)
    if not channels * bits or not 1000 <= rate <= 192_000 or align * 8 != channels * bits:
        raise AudioError(f"{path}: {channels} channels of {bits} bits at {rate} Hz make no sense")
    data = chunks[b"data"]
    samples = _samples(path, kind, bits, data[: len(data) // align * align])
    if not len(samples):
        raise AudioError(f"{path}: holds no samples; give a recording that is not empty")
    if not np.isfinite(samples).all():
        raise AudioError(f"{path}: holds NaN or infinite samples; repair the recording")
    return samples.reshape(-1, channels), rate


def resample(pcm: np.ndarray, source_rate: int, rate: int) -> np.ndarray:
    """Change the rate of mono PCM, by a windowed sinc (`mqruntime.audio` states its errors).

    With both rates divided by their greatest common divisor, to `up` and `down`, output n lies at
    input position n * down / up: one of `up` phases, each with its own filter of input samples.

    Examples:
        >>> import numpy as np
        >>> mqruntime.resample(np.zeros(48000), 48000, 16000).shape
        (16000,)

    Args:
        pcm: float [samples].
        source_rate: of `pcm`, in Hz.
        rate: wanted, in Hz.

    Returns:
        float32 [ceil(samples * rate / source_rate)].
    """
    pcm = np.asarray(pcm, np.float32)
    if source_rate == rate:
        return pcm
    divisor = gcd(source_rate, rate)
    up, down = rate // divisor, source_rate // divisor
    positions = np.arange(ceil(len(pcm) * up / down), dtype=np.int64) * down
    phases, phase_of = np.unique(positions % up, return_inverse=True)
    filters = _filters(phases / up, _ROLLOFF * min(1.0, up / down))
    reach = filters.shape[1] // 2
    padded = np.pad(pcm.astype(np.float64), (reach, reach + 1))
    resampled = np.empty(len(positions), np.float32)
    taps = np.arange(filters.shape[1])
    for start in range(0, len(positions), _BLOCK):
        block = positions[start : start + _BLOCK]
        inputs = padded[(block // up + 1)[:, np.newaxis] + taps]
        block_filters = filters[phase_of[start : start + _BLOCK]]
        resampled[start : start + _BLOCK] = np.einsum("nt,nt->n", inputs, block_filters)
    return resampled


def _filters(phases: np.ndarray, cutoff: float) -> np.ndarray:
    """Filters [phase, tap], each of sum 1; tap t lies t - reach + 1 - phase samples off."""
    reach = ceil(_ZERO_CROSSINGS / cutoff)
    offsets = np.arange(2 * reach) - reach + 1 - phases[:, np.newaxis]
    inside = np.clip(1 - (offsets * cutoff / _ZERO_CROSSINGS) ** 2, 0, None)
    filters = np.sinc(offsets * cutoff) * np.i0(_BETA * np.sqrt(inside))
    normalized: np.ndarray = filters / filters.sum(axis=1, keepdims=True)
    return normalized


def _chunks(path: str, content: bytes) -> dict[bytes, bytes]:
    """The file's chunks by id, first of each; streamed files may give the data's length as ~0."""
    chunks: dict[bytes, bytes] = {}
    position = 12
    while position + 8 <= len(content):
        name, length = struct.unpack_from("<4sI", content, position)
        body = content[position + 8 : position + 8 + length]
        if len(body) < length and not (name == b"data" and length >= 0xFFFFFF00):
            raise AudioError(
                f"{path}: is cut off, {name.decode('latin-1').strip()} chunk has {len(body)} of "
                f"{length} bytes; copy it again"
            )
        chunks.setdefault(name, body)
        position += 8 + length + length % 2
    return chunks


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
        return np.frombuffer(data, f"<f{bits // 8}").astype(np.float32)
    raise AudioError(
        f"{path}: WAV format {kind} with {bits} bits is not supported; convert it to 16-bit PCM"
    )


def checked_pcm(pcm: np.ndarray, *, may_be_empty: bool = False) -> np.ndarray:
    """PCM as graphs take it, float32 [samples].

    Args:
        pcm: float [samples], mono.
        may_be_empty: whether there may be no samples.

    Raises:
        AudioError: it is empty, not one-dimensional float, or holds NaN or infinity.
    """
    pcm = np.asarray(pcm)
    if pcm.ndim != 1 or not np.issubdtype(pcm.dtype, np.floating):
        raise AudioError(f"PCM is {pcm.dtype} {list(pcm.shape)}; give float [samples], mono")
    if not len(pcm) and not may_be_empty:
        raise AudioError("PCM holds no samples; give a recording that is not empty")
    with np.errstate(over="ignore", invalid="ignore"):
        pcm = np.ascontiguousarray(pcm, np.float32)
        # NaN or infinity anywhere makes the sum one of them; float64 holds any other sum.
        if not np.isfinite(pcm.sum(dtype=np.float64)):
            raise AudioError("PCM holds NaN or infinite samples; repair the recording")
    return pcm
