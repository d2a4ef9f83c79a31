"""Do an exported Whisper's greedy tokens equal those of transformers' `generate`?

    python examples/compare_with_transformers.py SOURCE MODEL CLIPS... [--clips 60]

SOURCE is what MODEL was exported from (a transformers or CTranslate2 folder). Prints each clip
whose tokens differ and the count of equal ones; exit code 1 if any differ. Needs `mqtool[export]`.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import GenerationConfig, WhisperFeatureExtractor

from mqruntime.bundle.manifest import WhisperSettings
from mqruntime.recognition import Recognizer
from mqtool.exporters.sources.find import load_model
from mqtool.recordings.audio import SAMPLE_RATE
from mqtool.recordings.clips import find_clips


def generation_config(settings: WhisperSettings) -> GenerationConfig:
    """The options of `generate`, from the manifest: some sources come without them."""
    config = GenerationConfig(
        max_length=settings.max_tokens,
        decoder_start_token_id=settings.start_of_transcript,
        eos_token_id=settings.end_of_text,
        pad_token_id=settings.end_of_text,
        suppress_tokens=settings.suppress,
        begin_suppress_tokens=settings.suppress_at_begin,
        no_timestamps_token_id=settings.no_timestamps,
        return_timestamps=False,
        num_beams=1,
        do_sample=False,
    )
    config.is_multilingual = bool(settings.languages)
    if settings.languages:
        config.lang_to_id = {f"<|{code}|>": token for code, token in settings.languages.items()}
        config.task_to_id = {"transcribe": settings.transcribe, "translate": settings.translate}
    return config


class Reference:
    """transformers' model with its own feature extractor."""

    def __init__(self, source: Path, settings: WhisperSettings) -> None:
        self.settings = settings
        self.model, _ = load_model(source)
        self.model.generation_config = generation_config(settings)
        self.extract = WhisperFeatureExtractor(feature_size=self.model.config.num_mel_bins)

    def tokens(
        self, pcm: np.ndarray, *, timestamps: bool = False, prompt_ids: torch.Tensor | None = None
    ) -> list[int]:
        """Greedy tokens without prompt and end; the language is detected.

        Args:
            pcm: float32 [samples].
            timestamps: with timestamps among the tokens.
            prompt_ids: text that came earlier, after its own token.
        """
        features = self.extract(
            pcm, sampling_rate=SAMPLE_RATE, return_tensors="pt", return_attention_mask=True
        )
        options = {"task": "transcribe"} if self.settings.languages else {}
        if timestamps:
            options |= {"return_timestamps": True}
            self.model.generation_config.max_initial_timestamp_index = 50
        if prompt_ids is not None:
            options |= {"prompt_ids": prompt_ids}
        with torch.inference_mode():
            generated = self.model.generate(**features, **options)[0].tolist()
        if self.settings.end_of_text in generated:
            generated = generated[: generated.index(self.settings.end_of_text)]
        if self.settings.no_timestamps in generated:  # transformers 4 gives the prompt back, 5 not
            generated = generated[generated.index(self.settings.no_timestamps) + 1 :]
        return generated


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("sources", type=Path, nargs="+", metavar="CLIPS")
    parser.add_argument("--clips", type=int, default=60, help="use this many, evenly spread")
    parser.add_argument("--split")
    parser.add_argument("--language")
    arguments = parser.parse_args()

    found = find_clips(arguments.sources, split=arguments.split, language=arguments.language)
    chosen = np.unique(np.linspace(0, len(found) - 1, arguments.clips).round().astype(int))
    equal = 0
    with Recognizer.open(arguments.model) as recognizer:
        reference = Reference(arguments.source, recognizer.manifest.whisper)
        for index in chosen:
            pcm = found[index].pcm()
            ours, theirs = recognizer.transcribe(pcm).tokens, reference.tokens(pcm)
            equal += ours == theirs
            if ours != theirs:
                print(f"{found[index].path}: {ours} here, {theirs} from transformers")
    print(f"{equal} of {len(chosen)} clips give equal tokens")
    return int(equal < len(chosen))


if __name__ == "__main__":
    sys.exit(main())
