"""Score a trained folder on the ten `dev` speakers with PyTorch.

    python examples/commands/evaluate.py examples/commands/keywords
    python examples/commands/evaluate.py examples/commands/ctc

A clip counts as correct when the keyword is right, or when the greedy CTC transcript is exactly
the word, so that 100 - accuracy is the word error. Intervals: percentile bootstrap over clips.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from augment import normalize
from data import DATA, VOCABULARY, WORDS, Clips, read_clips
from transformers import (
    AutoConfig,
    AutoModelForAudioClassification,
    AutoModelForCTC,
    PreTrainedModel,
)

__all__ = ["bootstrap", "is_correct", "load", "words_heard"]

LETTER_OF = {i: token for token, i in VOCABULARY.items() if len(token) == 1}


def load(folder: Path) -> PreTrainedModel:
    """The model of a Hugging Face folder, in float32 and evaluation mode."""
    architecture = AutoConfig.from_pretrained(folder).architectures[0]
    kind = AutoModelForCTC if architecture.endswith("ForCTC") else AutoModelForAudioClassification
    return kind.from_pretrained(folder, dtype=torch.float32).eval()


@torch.inference_mode()
def words_heard(model: PreTrainedModel, pcm: np.ndarray, batch: int = 64) -> list[str]:
    """The word, or the greedy CTC text, of each clip; pcm int16, shape = (clips, samples)."""
    model.eval()
    heard: list[str] = []
    for start in range(0, len(pcm), batch):
        logits = model(normalize(torch.from_numpy(pcm[start : start + batch]).float())).logits
        if logits.ndim == 2:
            heard += [WORDS[i] for i in logits.argmax(-1)]
        else:
            heard += [_collapse(frames) for frames in logits.argmax(-1)]
    return heard


def _collapse(frames: torch.Tensor) -> str:
    """Greedy CTC: drop repeats, then blanks."""
    return "".join(LETTER_OF.get(int(i), "") for i in frames.unique_consecutive())


def is_correct(model: PreTrainedModel, clips: Clips) -> np.ndarray:
    """Whether each clip's word was heard; bool, shape = (clips,)."""
    return np.array(words_heard(model, clips.pcm)) == np.array(WORDS)[clips.labels]


def bootstrap(correct: np.ndarray, draws: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean of `correct` in percent, clips drawn with replacement."""
    rows = np.random.default_rng(seed).integers(len(correct), size=(draws, len(correct)))
    low, high = np.percentile(100 * correct[rows].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description="Score a model folder on the dev speakers.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with manifest.csv")
    options = parser.parse_args()
    clips = read_clips(options.data, "dev")
    heard = np.array(words_heard(load(options.folder), clips.pcm))
    correct = heard == np.array(WORDS)[clips.labels]
    percent, (low, high) = 100 * correct.mean(), bootstrap(correct)
    print(f"{percent:.1f} % of {len(clips)} clips correct (95 % interval {low:.1f} to {high:.1f})")
    for speaker in np.unique(clips.speakers):
        rows = clips.speakers == speaker
        print(f"  {speaker}  {100 * correct[rows].mean():5.1f} %  of {rows.sum()}")
    for i in np.flatnonzero(~correct):
        print(f"  {clips.speakers[i]}: {WORDS[clips.labels[i]]} heard as {heard[i] or 'nothing'}")


if __name__ == "__main__":
    main()
