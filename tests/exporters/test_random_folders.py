"""Folders with any tokenizer, front end and decoding settings: what transformers hears, we hear."""

import random
from collections import Counter

import numpy as np
import pytest

pytest.importorskip("torch", reason="export needs mqtool[export]")

from random_folders import (
    heard_by_transformers,
    random_ctc_folder,
    random_label_folder,
    random_parakeet_folder,
    random_transducer_folder,
    random_whisper_folder,
)

from mqruntime.options import DecodingOptions
from mqruntime.recognition import Recognizer
from mqtool.exporters.pipeline import export_model
from mqtool.recordings.spoken import CLIPS, spoken

ARCHITECTURES = [
    f"{name}{ending}"
    for name in ("Wav2Vec2", "Hubert", "WavLM")
    for ending in ("ForCTC", "ForSequenceClassification")
]


@pytest.mark.soak
def test_what_transformers_hears(tmp_path, portion):
    """Every export also compares by itself; this compares other recordings by other code."""
    texts: Counter[str] = Counter()
    for number in range(portion(400)):
        rng = random.Random(number)
        kind = ("whisper", "ctc", "labels", "ctc")[number % 4]
        kind = {7: "parakeet", 3: "transducer"}.get(number % 8, kind)
        source = tmp_path / f"source{number}"
        if kind == "whisper":
            random_whisper_folder(source, rng)
        elif kind == "parakeet":
            random_parakeet_folder(source, rng)
        elif kind == "transducer":
            random_transducer_folder(source, rng)
        else:
            ending = "ForCTC" if kind == "ctc" else "ForSequenceClassification"
            architecture = rng.choice([name for name in ARCHITECTURES if name.endswith(ending)])
            make = random_ctc_folder if kind == "ctc" else random_label_folder
            make(source, architecture, rng)
        exported = export_model(str(source), tmp_path / f"model{number}")
        assert exported.texts.missing == [], number
        with Recognizer.open(exported.path) as recognizer:
            rate = recognizer.manifest.sample_rate
            pcm = spoken(CLIPS[1], rate)[: rate if kind == "whisper" else 2 * rate]
            pcm = pcm + np.random.default_rng(number).normal(0, 0.01, len(pcm)).astype(np.float32)
            quiet = DecodingOptions(timestamps=False, temperature=0.0, no_speech_threshold=None)
            found = recognizer.transcribe(pcm, options=quiet).text
        assert found == heard_by_transformers(source, pcm), number
        texts[kind] += len(set(found)) > 3
    assert texts["whisper"] >= portion(400) / 10, texts
    assert all(texts[kind] >= portion(400) / 20 for kind in ("ctc", "parakeet", "transducer")), (
        texts
    )
