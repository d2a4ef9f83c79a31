"""Models behind transformers' forward interface: torchao in PyTorch, optimum in onnxruntime.

The decoding loop is greedy and the same for both; token ids and the token table come from the
`model.json` and `vocabulary.json.gz` that `mqtool export` wrote for the same weights.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import WhisperFeatureExtractor

from mqruntime.bundle.manifest import Manifest
from mqruntime.tasks.whisper import decoder as whisper
from mqruntime.vocabulary import Vocabulary

__all__ = ["OptimumEngine", "TorchaoEngine"]


class _Engine:
    def __init__(self, folder: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        manifest = Manifest.read(folder)
        if manifest.whisper is None or manifest.vocabulary is None:
            raise ValueError(f"{folder}: is not a Whisper model")
        self._settings = manifest.whisper
        self._vocabulary = Vocabulary.read(folder / manifest.vocabulary)
        self._features = WhisperFeatureExtractor()
        self._model = self._open(folder, threads)
        self._encoded: Any = None

    def _open(self, folder: Path, threads: int) -> Any:
        raise NotImplementedError

    @torch.inference_mode()
    def transcribe(self, pcm: np.ndarray, language: str | None) -> str:
        """Text of one recording."""
        self.encode(pcm)
        settings = self._settings
        fed, past, found = whisper.prompt_tokens(settings, language or "en"), None, []
        while len(found) < settings.max_tokens // 2:
            logits, past = self._step(fed, past)
            logits[settings.suppress] = -torch.inf
            if not found:
                logits[settings.suppress_at_begin] = -torch.inf
            token = int(logits.argmax())
            if token == settings.end_of_text:
                break
            found.append(token)
            fed = [token]
        return self._vocabulary.bpe_text(t for t in found if t < settings.end_of_text)

    @torch.inference_mode()
    def encode(self, pcm: np.ndarray) -> None:
        """PCM to the encoder's output for 30 s (cross-attention projections come later)."""
        features = self._features(pcm, sampling_rate=16000, return_tensors="pt").input_features
        self._encoded = self._model.get_encoder()(features, attention_mask=None)

    @torch.inference_mode()
    def decode(self, tokens: int) -> None:
        """So many decoder steps, from the start, cross-attention projections included."""
        past = None
        for _ in range(tokens):
            _, past = self._step([self._settings.start_of_transcript], past)

    def _step(self, tokens: list[int], past: Any) -> tuple[torch.Tensor, Any]:
        output = self._model(
            encoder_outputs=self._encoded,
            decoder_input_ids=torch.tensor([tokens]),
            past_key_values=past,
            use_cache=True,
        )
        return output.logits[0, -1].float(), output.past_key_values


class TorchaoEngine(_Engine):
    """A folder with a torchao model saved by `torch.save`."""

    def _open(self, folder: Path, threads: int) -> Any:
        from transformers import WhisperConfig, WhisperForConditionalGeneration

        config = WhisperConfig.from_pretrained(folder)
        with torch.device("meta"):
            model = WhisperForConditionalGeneration(config)
        state = torch.load(folder / "model.pt", weights_only=False)
        model.load_state_dict(state, strict=False, assign=True)
        model.tie_weights()
        return model.eval()


class OptimumEngine(_Engine):
    """A folder of graphs made by optimum-onnx."""

    def _open(self, folder: Path, threads: int) -> Any:
        import onnxruntime
        from optimum.onnxruntime import ORTModelForSpeechSeq2Seq

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.force_spinning_stop", "1")
        return ORTModelForSpeechSeq2Seq.from_pretrained(folder, session_options=options)
