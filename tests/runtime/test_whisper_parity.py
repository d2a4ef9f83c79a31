"""The runtime's greedy tokens are those of transformers' `generate`, on real speech."""

import sys
from pathlib import Path

import pytest

from mqruntime.recognizer import Recognizer
from mqtool.clips import find_clips

pytestmark = [pytest.mark.data, pytest.mark.weights, pytest.mark.slow]

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_tokens_equal_those_of_transformers(speech, whisper_tiny_en, exported_tiny_en, monkeypatch):
    """12 clips; `examples/compare_with_transformers.py` compares as many as one likes."""
    pytest.importorskip("transformers")
    monkeypatch.syspath_prepend(EXAMPLES)
    from compare_with_transformers import Reference

    prompts = find_clips([speech / "prompts" / "manifest.csv"], split="dev", language="en")
    books = find_clips([speech / "librispeech" / "manifest.csv"], split="dev")
    with Recognizer.open(exported_tiny_en) as recognizer:
        reference = Reference(whisper_tiny_en, recognizer.manifest.whisper)
        for clip in [*prompts[::4], *books[::25]]:
            pcm = clip.pcm()
            result = recognizer.transcribe(pcm)
            assert result.tokens == reference.tokens(pcm), clip.path
            assert result.text
            assert result.language == "en"
    assert "compare_with_transformers" in sys.modules
