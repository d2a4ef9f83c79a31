"""How sure is a figure? Percentile bootstrap over clips.

Bisani and Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation"
(ICASSP 2004): draw as many clips as there are, with replacement, and compute the ratio of summed
errors to summed lengths anew; for two systems on the same clips, the difference on each draw.
"""

from collections.abc import Sequence

import numpy as np

__all__ = ["interval", "mean_interval", "paired_interval"]

_LEVEL = 0.95
_DRAWS = 10_000
_BLOCK = 1_000  # draws at once, to bound memory


def interval(
    errors: Sequence[float],
    totals: Sequence[float],
    *,
    level: float = _LEVEL,
    draws: int = _DRAWS,
    seed: int = 0,
) -> tuple[float, float]:
    """Interval of sum(errors) / sum(totals).

    Args:
        errors: of each clip.
        totals: words, characters or recordings of each clip.
        level: probability that the interval covers.
        draws: number of resamples.
        seed: the same seed gives the same interval.

    Returns:
        Lower and upper end, as ratios. Draws without any words are left out.
    """
    sums = _resampled_sums(np.stack([errors, totals]), draws, seed)
    usable = sums[:, sums[1] > 0]
    return _percentiles(usable[0] / usable[1], level)


def paired_interval(
    errors: Sequence[float],
    other_errors: Sequence[float],
    totals: Sequence[float],
) -> tuple[float, float]:
    """Interval of the difference (sum(errors) - sum(other_errors)) / sum(totals), clip by clip.

    Both systems see the same draws, so what makes a clip hard for both cancels out.
    """
    return interval(np.subtract(errors, other_errors).tolist(), totals)


def mean_interval(
    strata: Sequence[tuple[Sequence[float], Sequence[float]]],
) -> tuple[float, float]:
    """Interval of the mean over strata of sum(errors) / sum(totals), each stratum counting alike.

    Clips are resampled within their stratum (a language, a speaker). For the difference of two
    systems give the differences of their errors, clip by clip, as `paired_interval` does.

    Args:
        strata: errors (or differences) and totals of each clip, stratum by stratum.
    """
    means = np.zeros(_DRAWS)
    for number, (errors, totals) in enumerate(strata):
        sums = _resampled_sums(np.stack([errors, totals]), _DRAWS, number)
        with np.errstate(invalid="ignore", divide="ignore"):
            means += sums[0] / sums[1] / len(strata)
    return _percentiles(means[np.isfinite(means)], _LEVEL)


def _resampled_sums(per_clip: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Sums over resampled clips: [figures, clips] -> [figures, draws]."""
    generator = np.random.default_rng(seed)
    clips = per_clip.shape[1]
    blocks = []
    for start in range(0, draws, _BLOCK):
        drawn = generator.integers(clips, size=(min(_BLOCK, draws - start), clips))
        blocks.append(per_clip[:, drawn].sum(axis=2))
    return np.concatenate(blocks, axis=1)


def _percentiles(values: np.ndarray, level: float) -> tuple[float, float]:
    if not values.size:
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
