"""`--task translate` gives the English that transformers' `generate` gives, of real speech."""

import json

import pytest

pytest.importorskip("torch", reason="export needs mqtool[export]")

from mqruntime.bundle.manifest import Manifest
from mqtool.cli.main import main
from mqtool.exporters.sources.find import load_model
from mqtool.recordings.clips import Clip

pytestmark = [pytest.mark.data, pytest.mark.weights, pytest.mark.slow]


CLIPS = {"es": "es_vm-intro.flac", "fr": "fr_confbridge-lock-extended.flac"}
ENGLISH = {"the", "to", "and", "you", "of", "a", "for", "is"}


def test_english_of_generate(speech, whisper_base, exported_base, tmp_path):
    settings = Manifest.read(exported_base).whisper
    model, _ = load_model(whisper_base)
    for language, name in CLIPS.items():
        clip = Clip(speech / "prompts" / "dev" / name)
        said = {}
        for task in ("transcribe", "translate"):
            result = tmp_path / f"{language}-{task}.json"
            arguments = ["transcribe", exported_base, clip.path, "--language", language]
            with pytest.raises(SystemExit) as done:
                main([*map(str, arguments), "--task", task, "--json", str(result)])
            assert not done.value.code
            (said[task],) = json.loads(result.read_text())["clips"]
        assert said["translate"]["tokens"] == _generated(model, settings, clip, language)
        common = {
            task: ENGLISH.intersection(row["text"].lower().split()) for task, row in said.items()
        }
        assert len(common["translate"]) >= 3
        assert len(common["transcribe"]) <= 1


def _generated(model, settings, clip: Clip, language: str) -> list[int]:
    """Greedy tokens of a translation by transformers' own loop, without prompt and end."""
    import torch
    from transformers import GenerationConfig, WhisperFeatureExtractor

    config = GenerationConfig(
        max_length=settings.max_tokens,
        decoder_start_token_id=settings.start_of_transcript,
        eos_token_id=settings.end_of_text,
        pad_token_id=settings.end_of_text,
        suppress_tokens=settings.suppress,
        begin_suppress_tokens=settings.suppress_at_begin,
        no_timestamps_token_id=settings.no_timestamps,
        num_beams=1,
        do_sample=False,
    )
    config.is_multilingual = True
    config.lang_to_id = {f"<|{code}|>": token for code, token in settings.languages.items()}
    config.task_to_id = {"transcribe": settings.transcribe, "translate": settings.translate}
    model.generation_config = config
    extract = WhisperFeatureExtractor(feature_size=model.config.num_mel_bins)
    features = extract(
        clip.pcm(), sampling_rate=16000, return_tensors="pt", return_attention_mask=True
    )
    with torch.inference_mode():
        tokens = model.generate(**features, language=language, task="translate")[0].tolist()
    if settings.no_timestamps in tokens:  # transformers 4 gives the prompt back, 5 not
        tokens = tokens[tokens.index(settings.no_timestamps) + 1 :]
    return (
        tokens[: tokens.index(settings.end_of_text)] if settings.end_of_text in tokens else tokens
    )
