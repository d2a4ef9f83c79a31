"""Clips of the commands set: read once, all of one length, grouped by speaker."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

__all__ = [
    "DATA",
    "RATE",
    "VOCABULARY",
    "WORDS",
    "Clips",
    "change_speed",
    "fit",
    "held_out",
    "read_clips",
]

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "commands"
RATE = 16_000  # Hz
WORDS = (
    *("down", "eight", "five", "four", "go", "left"),
    *("one", "right", "three", "two", "up", "zero"),
)
LETTERS = sorted(set("".join(WORDS)))
VOCABULARY = {token: i for i, token in enumerate(["<pad>", "<unk>", "|", *LETTERS])}


@dataclass(frozen=True)
class Clips:
    """Recordings of one word each.

    Attributes:
        pcm: int16, shape = (clips, samples); one second each, shorter recordings zero-padded.
        labels: int64, shape = (clips,): positions in `WORDS`.
        speakers: one id a clip.
    """

    pcm: np.ndarray
    labels: np.ndarray
    speakers: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: np.ndarray) -> "Clips":
        return Clips(self.pcm[rows], self.labels[rows], self.speakers[rows])


def fit(pcm: np.ndarray, samples: int = RATE) -> np.ndarray:
    """Crop or zero-pad `pcm`, shape = (n,), to `samples`, equally on both sides."""
    spare = samples - len(pcm)
    if spare < 0:
        return pcm[-spare // 2 :][:samples]
    return np.pad(pcm, (spare // 2, spare - spare // 2))


def read_clips(data: Path, split: str) -> Clips:
    """All clips of one split ("train" or "dev") of `data/manifest.csv`, in its order."""
    with (data / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == split]
    pcm = np.zeros((len(rows), RATE), np.int16)
    for target, row in zip(pcm, rows, strict=True):
        samples, rate = soundfile.read(data / row["path"], dtype="int16")
        if rate != RATE or samples.ndim != 1:
            raise ValueError(f"{row['path']}: {rate} Hz, {samples.ndim} axes; need 16 kHz mono")
        target[:] = fit(samples)
    labels = np.array([WORDS.index(row["transcript"]) for row in rows])
    return Clips(pcm, labels, np.array([row["speaker"] for row in rows]))


def held_out(clips: Clips, fraction: float, seed: int) -> np.ndarray:
    """Which clips are of a random `fraction` of the speakers; bool, shape = (clips,)."""
    speakers = np.unique(clips.speakers)
    held = np.random.default_rng(seed).permutation(speakers)[: round(fraction * len(speakers))]
    return np.isin(clips.speakers, held)


def change_speed(pcm: np.ndarray, speed: float) -> np.ndarray:
    """Resampled int16 clips, shape = (clips, samples) unchanged: tempo and pitch times `speed`."""
    if speed == 1:
        return pcm
    import librosa  # scoring goes without it

    changed = np.empty_like(pcm)
    for target, source in zip(changed, pcm, strict=True):
        resampled = librosa.resample(
            source.astype(np.float32), orig_sr=RATE, target_sr=RATE / speed, res_type="soxr_mq"
        )
        target[:] = np.clip(fit(resampled), -32768, 32767)
    return changed
