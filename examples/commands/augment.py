"""Random changes to a batch of clips that leave the word alone.

Speed perturbation (Ko et al., 2015) picks one of the resampled copies; the rest follows
WavAugment (Kharitonov et al., 2021), FilterAugment (Nam et al., 2022) and, for the masks,
SpecAugment (Park et al., 2019), done on the waveform because the models read PCM. `mix` is
mixup (Zhang et al., 2018) of whole clips; for transcripts MixSpeech (Meng et al., 2021).
"""

import torch
from data import RATE
from torch import Tensor

__all__ = ["augment", "mix", "normalize"]

MAX_SHIFT = RATE // 10  # samples, 100 ms either way
SNR_DB = (0.0, 30.0)
NOISE_SLOPE = (0.0, 2.0)  # power falls with frequency ** slope: 0 white, 1 pink, 2 brown
GAIN_DB, GAIN_BANDS = 6.0, 8
MAX_MASKED_BAND = 0.2  # of the mel axis
MAX_MASKED_TIME = RATE // 8  # samples, 125 ms


def normalize(pcm: Tensor) -> Tensor:
    """Zero mean and unit variance a clip, as `Wav2Vec2FeatureExtractor` does; (batch, samples)."""
    variance, mean = torch.var_mean(pcm, dim=1, keepdim=True, correction=0)
    return (pcm - mean) / torch.sqrt(variance + 1e-7)


def augment(pcm: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """A changed, normalized copy of float clips, shape = (batch, samples).

    Returns:
        The clips, and the sample of the given clip that each now starts with, shape = (batch,).
    """
    pcm, start = _shift(pcm, random)
    pcm = _filter(normalize(pcm), random)
    pcm = _add_noise(normalize(pcm), random)
    return normalize(_mask_time(pcm, random)), start


def mix(pcm: Tensor, part: float, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Add to a `part` of the normalized clips, shape = (batch, samples), another one, quieter.

    Returns:
        The clips, which row was added to each, and the share of the clip itself in the sum, 0.5
        to 1; the last two of shape = (batch,). The loss takes the same shares of both labels.
    """
    rows = torch.randperm(len(pcm), generator=random)
    # sin^2 of a uniform angle is Beta(0.5, 0.5), here its upper half.
    share = torch.sin(_uniform((len(pcm),), torch.pi / 4, torch.pi / 2, random)) ** 2
    share[torch.rand(len(pcm), generator=random) >= part] = 1.0
    weight = share[:, None]
    return normalize(pcm * weight + pcm[rows] * (1 - weight)), rows, share


def _uniform(shape: tuple[int, ...], low: float, high: float, random: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=random)


def _shift(pcm: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Move each clip by up to `MAX_SHIFT` samples; silence comes in."""
    batch, samples = pcm.shape
    start = torch.randint(0, 2 * MAX_SHIFT + 1, (batch, 1), generator=random)
    padded = torch.nn.functional.pad(pcm, (MAX_SHIFT, MAX_SHIFT))
    return padded.gather(1, start + torch.arange(samples)), (start - MAX_SHIFT)[:, 0]


def _mel_axis(bins: int) -> Tensor:
    """Position of each FFT bin on the mel scale, 0 to 1; shape = (bins,)."""
    hertz = torch.linspace(0, RATE / 2, bins)
    mel = torch.log1p(hertz / 700)
    return mel / mel[-1]


def _filter(pcm: Tensor, random: torch.Generator) -> Tensor:
    """Random smooth gain over frequency, and one band silenced."""
    batch, samples = pcm.shape
    spectrum = torch.fft.rfft(pcm)
    mel = _mel_axis(spectrum.shape[1])
    knots = _uniform((batch, GAIN_BANDS + 1), -GAIN_DB, GAIN_DB, random)
    left = (mel * GAIN_BANDS).long().clamp(max=GAIN_BANDS - 1)
    part = mel * GAIN_BANDS - left
    decibels = knots[:, left] * (1 - part) + knots[:, left + 1] * part
    width = _uniform((batch, 1), 0, MAX_MASKED_BAND, random)
    low = _uniform((batch, 1), 0, 1, random) * (1 - width)
    kept = (mel < low) | (mel > low + width)
    return torch.fft.irfft(spectrum * 10 ** (decibels / 20) * kept, samples)


def _add_noise(pcm: Tensor, random: torch.Generator) -> Tensor:
    """Noise of a random colour and level, on four clips of five."""
    batch, samples = pcm.shape
    spectrum = torch.fft.rfft(torch.randn((batch, samples), generator=random))
    bins = torch.arange(1, spectrum.shape[1] + 1)
    slope = _uniform((batch, 1), *NOISE_SLOPE, random)
    noise = normalize(torch.fft.irfft(spectrum * bins ** (-slope / 2), samples))
    level = 10 ** (-_uniform((batch, 1), *SNR_DB, random) / 20)
    return pcm + noise * level * (torch.rand((batch, 1), generator=random) < 0.8)


def _mask_time(pcm: Tensor, random: torch.Generator) -> Tensor:
    """Silence one stretch of up to `MAX_MASKED_TIME` samples."""
    batch, samples = pcm.shape
    width = torch.randint(0, MAX_MASKED_TIME + 1, (batch, 1), generator=random)
    start = (torch.rand((batch, 1), generator=random) * (samples - width)).long()
    at = torch.arange(samples)
    return pcm * ((at < start) | (at >= start + width))
