"""`--task translate` gives the English that transformers' `generate` gives, of real speech."""

import json

import pytest

pytest.importorskip("torch", reason="export needs mqtool[export]")

from mqruntime.bundle.manifest import Manifest
from mqtool.cli.main import main
from mqtool.exporters.sources.find import load_model
from mqtool.recordings.clips import Clip, find_clips

pytestmark = [pytest.mark.data, pytest.mark.weights, pytest.mark.slow]


@pytest.mark.parametrize("language", ["es", "fr", "it"])
def test_english_of_generate(speech, whisper_base, exported_base, tmp_path, language):
    found = find_clips([speech / "prompts" / "manifest.csv"], split="dev", language=language)
    clip = max(found, key=lambda clip: len(clip.pcm()))
    settings = Manifest.read(exported_base).whisper
    model, _ = load_model(whisper_base)
    said = {}
    for task in ("transcribe", "translate"):
        result = tmp_path / f"{task}.json"
        arguments = ["transcribe", exported_base, clip.path, "--language", language]
        with pytest.raises(SystemExit) as done:
            main([*map(str, arguments), "--task", task, "--json", str(result)])
        assert not done.value.code
        (row,) = json.loads(result.read_text())["clips"]
        assert row["tokens"] == _generated(model, settings, clip, language, task)
        said[task] = row["text"].lower().split()
    english = {"the", "to", "and", "you", "of", "a", "for", "is"}
    assert len(english.intersection(said["translate"])) >= 3
    assert len(english.intersection(said["transcribe"])) <= 1


def _generated(model, settings, clip: Clip, language: str, task: str) -> list[int]:
    """Greedy tokens of transformers' own loop, without prompt and end."""
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
        tokens = model.generate(**features, language=language, task=task)[0].tolist()
    if settings.no_timestamps in tokens:  # transformers 4 gives the prompt back, 5 not
        tokens = tokens[tokens.index(settings.no_timestamps) + 1 :]
    return (
        tokens[: tokens.index(settings.end_of_text)] if settings.end_of_text in tokens else tokens
    )
