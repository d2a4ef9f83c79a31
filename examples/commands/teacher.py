"""What a larger model hears in the training clips, for the small ones to learn beside the labels.

    python examples/commands/teacher.py work/weights/whisper-base -o work/teacher.npy

Writes the last hidden states of a Whisper encoder, float16, shape = (clips, 50, features): one
frame every 20 ms of each clip of the `train` split. `train.py --teacher` has a linear map of a
small model's frames follow them (feature distillation, as in DistilHuBERT: Chang et al., 2022);
the map is thrown away after training.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from data import DATA, RATE, read_clips
from torch import Tensor, nn
from transformers import WhisperFeatureExtractor

from mqtool.exporters.sources.ctranslate2 import load_whisper

__all__ = ["Teacher"]

FRAME = RATE // 50  # samples
FRAMES = RATE // FRAME  # a clip
TOGETHER = 20  # clips that fill Whisper's 30 seconds, with silence around them
SLOT = 30 * RATE // TOGETHER  # samples
LEAD = SLOT // 6  # samples of silence before a clip


class Teacher(nn.Module):
    """Compares a small model's frames with a teacher's.

    Attributes:
        features: shape = (clips, 50, features), each feature with zero mean and unit variance.
    """

    def __init__(self, features: np.ndarray, width: int) -> None:
        """`features` as this script writes them; `width`: features of a small model's frame."""
        super().__init__()
        values = torch.from_numpy(features)
        spread, mean = torch.var_mean(values[::8].float(), dim=(0, 1))
        self.features = ((values - mean.half()) / spread.sqrt().half()).half()
        self.map = nn.Linear(width, features.shape[-1])

    def targets(self, rows: Tensor, samples: Tensor) -> Tensor:
        """Features of clips `rows` at `samples`, shape = (batch, frames), between two frames.

        Where `samples` lie outside of the clip, they are those of its first or last frame.
        """
        position = (samples / FRAME - 0.5).clamp(0, FRAMES - 1.001)
        left = position.long()
        part = (position - left)[..., None]
        features = self.features[rows].float()
        index = left[..., None].expand(-1, -1, features.shape[-1])
        return features.gather(1, index) * (1 - part) + features.gather(1, index + 1) * part

    def loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Mean squared error, shape = (batch,); hidden: (batch, frames, width)."""
        return (self.map(hidden.float()) - targets).square().mean((1, 2))


def hear(encoder: nn.Module, extract: WhisperFeatureExtractor, pcm: np.ndarray) -> np.ndarray:
    """Hidden states of at most `TOGETHER` int16 clips, (clips, samples), heard in one window."""
    window = np.zeros((TOGETHER, SLOT), np.float32)
    loudest = np.abs(pcm.astype(np.float32)).max(axis=1, keepdims=True)
    window[: len(pcm), LEAD : LEAD + RATE] = pcm / np.maximum(2 * loudest, 100)
    mel = extract(window.reshape(-1), sampling_rate=RATE, return_tensors="pt").input_features
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        hidden = encoder(mel).last_hidden_state.float()
    slots = hidden.view(TOGETHER, SLOT // FRAME, -1)[: len(pcm)].numpy()
    first = LEAD // FRAME  # the clip starts in the middle of this frame
    between = (slots[:, first : first + FRAMES] + slots[:, first + 1 : first + FRAMES + 1]) / 2
    return between.astype(np.float16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", type=Path, help="CTranslate2 folder of a Whisper")
    parser.add_argument("--data", type=Path, default=DATA, help="folder with manifest.csv")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    whisper = load_whisper(options.weights).eval()
    extract = WhisperFeatureExtractor(feature_size=whisper.config.num_mel_bins)
    pcm = read_clips(options.data, "train").pcm
    windows = [pcm[first : first + TOGETHER] for first in range(0, len(pcm), TOGETHER)]
    heard = [hear(whisper.model.encoder, extract, window) for window in windows]
    np.save(options.output, np.concatenate(heard))


if __name__ == "__main__":
    main()
