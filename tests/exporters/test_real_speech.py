"""Greedy tokens of the exported graphs are PyTorch's, clip by clip, on real speech."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="export needs mqtool[export]")

from mqruntime.recognition import Recognizer
from mqruntime.tasks.whisper.decoder import prompt_tokens
from mqtool.exporters.families.whisper_reference import reference_features
from mqtool.exporters.sources.find import load_model
from mqtool.recordings.clips import find_clips

pytestmark = [pytest.mark.data, pytest.mark.weights, pytest.mark.slow]

CLIPS = 12


@pytest.mark.parametrize("optimize", [True, False])
def test_greedy_tokens_equal_pytorch(speech, whisper_tiny_en, exported_tiny_en, optimize):
    """PyTorch, given the graphs' tokens, would have chosen every one of them, and then the end.

    That is equality of greedy decoding, checked with one pass of PyTorch a clip.
    """
    model, _ = load_model(whisper_tiny_en)
    prompts = find_clips([speech / "prompts" / "manifest.csv"], split="dev", language="en")
    books = find_clips([speech / "librispeech" / "manifest.csv"], split="dev")
    clips = [*list(prompts)[: CLIPS // 2], *list(books)[: CLIPS // 2]]
    assert len(clips) == CLIPS
    with Recognizer.open(exported_tiny_en, optimize=optimize) as recognizer:
        settings = recognizer.manifest.whisper
        prompt = prompt_tokens(settings, None)
        for clip in clips[:: 1 if optimize else 6]:
            pcm = clip.pcm()[: settings.window]
            tokens = recognizer.transcribe(pcm).tokens
            expected = _greedy_choices(model, settings, pcm, [*prompt, *tokens])
            assert expected[len(prompt) - 1 :] == [*tokens, settings.end_of_text], clip.path


def _greedy_choices(model, settings, pcm, tokens):
    """PyTorch's best next token after each of `tokens`, suppressed ones left out."""
    import torch

    padded = np.zeros((1, settings.window), np.float32)
    padded[0, : len(pcm)] = pcm
    features = torch.from_numpy(reference_features(padded, model.config.num_mel_bins))
    with torch.no_grad():
        logits = model(features, decoder_input_ids=torch.tensor([tokens])).logits[0]
    logits[:, settings.suppress] = -torch.inf
    first = len(prompt_tokens(settings, None)) - 1
    logits[first, settings.suppress_at_begin] = -torch.inf
    return logits.argmax(-1).tolist()
