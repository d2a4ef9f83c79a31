"""Wav2Vec2 and its relatives as one graph: PCM to CTC or classification logits."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mqruntime.bundle.manifest import CtcSettings, Manifest
from mqtool.errors import ExportError
from mqtool.exporters.families.family import Family
from mqtool.exporters.graphs import save, trace
from mqtool.exporters.parity import Case, probe
from mqtool.exporters.patches import exportable
from mqtool.exporters.sources.find import Source, read_json
from mqtool.exporters.tokenizer import VOCABULARY, read_vocabulary, write_vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = [
    "FAMILY",
    "GRAPH",
    "feature_extractor",
    "min_samples",
    "normalized",
    "reference_cases",
    "write_folder",
]

GRAPH = "model.onnx"

_VARIANCE_EPSILON = 1e-7
"""Added to the variance by transformers' Wav2Vec2FeatureExtractor."""


def normalized(pcm: Tensor) -> Tensor:
    """PCM [batch, samples] with zero mean and unit variance an item."""
    centered = pcm - pcm.mean(1, keepdim=True)
    variance = (centered * centered).mean(1, keepdim=True)
    return centered / torch.sqrt(variance + _VARIANCE_EPSILON)


class _Normalized(nn.Module):
    """The encoder on PCM, with zero mean and unit variance an item where the model wants it.

    Submodules go by the names they have in `model`, so that parameters keep theirs.
    """

    def __init__(self, model: Any, *, normalize: bool) -> None:
        super().__init__()
        self.normalize = normalize
        self.prefix = model.base_model_prefix
        setattr(self, self.prefix, model.base_model)

    def encode(self, pcm: Tensor, **options: Any) -> Any:
        """Run the encoder on PCM [batch, samples]."""
        if self.normalize:
            pcm = normalized(pcm)
        return getattr(self, self.prefix)(pcm, **options)


class CtcModel(_Normalized):
    """PCM to logits of every frame."""

    def __init__(self, model: Any, *, normalize: bool) -> None:
        super().__init__(model, normalize=normalize)
        self.lm_head = model.lm_head

    def forward(self, pcm: Tensor) -> Tensor:
        """[batch, samples] to [batch, frames, vocabulary]."""
        logits: Tensor = self.lm_head(self.encode(pcm).last_hidden_state)
        return logits


class Classifier(_Normalized):
    """PCM to logits of the labels."""

    def __init__(self, model: Any, *, normalize: bool) -> None:
        super().__init__(model, normalize=normalize)
        self.weighted = model.config.use_weighted_layer_sum
        if self.weighted:
            self.layer_weights = model.layer_weights
        self.projector = model.projector
        self.classifier = model.classifier

    def forward(self, pcm: Tensor) -> Tensor:
        """[batch, samples] to [batch, labels]."""
        if self.weighted:
            layers = self.encode(pcm, output_hidden_states=True).hidden_states
            weights = torch.softmax(self.layer_weights, -1)
            hidden = sum(layer * weights[index] for index, layer in enumerate(layers))
        else:
            hidden = self.encode(pcm).last_hidden_state
        # Kept rank 3: onnxruntime turns a quantized 2-D MatMul with a bias into a float Gemm.
        pooled = self.projector(hidden).mean(1, keepdim=True)
        logits: Tensor = self.classifier(pooled).squeeze(1)
        return logits


def write_folder(model: "PreTrainedModel", source: Source, folder: Path) -> Manifest:
    """Write the graph and, for CTC, the token table; return the manifest that describes them.

    Raises:
        ExportError: the tokenizer or the feature extractor's settings are missing.
    """
    config: Any = model.config
    settings = feature_extractor(source.folder)
    is_ctc = hasattr(model, "lm_head")
    ctc = _write_ctc_vocabulary(model, source.folder, folder) if is_ctc else None
    _fold_weight_norms(model)
    _fold_batch_norms(model)
    _export(model, folder / GRAPH, normalize=settings["do_normalize"])
    return Manifest(
        family=config.model_type,
        task="ctc" if is_ctc else "keywords",
        sample_rate=settings["sampling_rate"],
        graphs={"model": GRAPH},
        vocabulary=VOCABULARY if is_ctc else None,
        labels=[] if is_ctc else _labels(config, source.folder),
        min_samples=min_samples(config.conv_kernel, config.conv_stride),
        ctc=ctc,
        source=source.description,
    )


def _labels(config: Any, folder: Path) -> list[str]:
    """Of the logits, in their order."""
    named = config.id2label
    wrong = [index for index in range(config.num_labels) if not isinstance(named.get(index), str)]
    if wrong:
        found = named.get(wrong[0])
        problem = "is missing" if found is None else f"is {found!r}, not a string"
        raise ExportError(
            f"{folder / 'config.json'}: label {wrong[0]} of id2label {problem}; there are "
            f"{config.num_labels}, from 0 on"
        )
    return [named[index] for index in range(config.num_labels)]


def feature_extractor(folder: Path) -> dict[str, Any]:
    """Settings of the feature extractor, from either of the files transformers writes."""
    combined = folder / "processor_config.json"
    if combined.is_file() and not (folder / "preprocessor_config.json").is_file():
        settings = read_json(combined, missing="").get("feature_extractor", {})
    else:
        settings = read_json(
            folder / "preprocessor_config.json",
            missing="whether this model wants normalized audio is not known; copy the file here",
        )
    settings = {"do_normalize": True, "sampling_rate": 16000, **settings}
    if settings["sampling_rate"] != 16000:  # the rate that recordings are read at
        raise ExportError(
            f"{folder}: the feature extractor's sampling_rate is {settings['sampling_rate']!r}; "
            "only models of 16000 Hz are read"
        )
    return settings


def _write_ctc_vocabulary(model: "PreTrainedModel", source: Path, folder: Path) -> CtcSettings:
    config: Any = model.config
    tokens = read_vocabulary(source, config.vocab_size)
    settings: dict[str, Any] = {}
    if (source / "tokenizer_config.json").is_file():
        settings = read_json(source / "tokenizer_config.json", missing="")
    delimiter = _content(settings.get("word_delimiter_token", "|"))
    if config.pad_token_id is None or not 0 <= config.pad_token_id < len(tokens):
        raise ExportError(f"{source}: config.json names no pad_token_id, which is CTC's blank")
    write_vocabulary(_spelled(tokens, settings), folder / VOCABULARY)
    return CtcSettings(
        blank=config.pad_token_id,
        word_delimiter=tokens.index(delimiter) if delimiter in tokens else None,
    )


def _content(token: Any) -> Any:
    """The text of a token that may be saved as an AddedToken."""
    return token.get("content") if isinstance(token, dict) else token


def _spelled(tokens: list[str], settings: dict[str, Any]) -> list[str]:
    """Tokens as the tokenizer's `decode` writes them: its case, phones with what parts them."""
    if settings.get("tokenizer_class") == "Wav2Vec2PhonemeCTCTokenizer":
        delimiter = _content(settings.get("phone_delimiter_token", " "))
        tokens = [f"{token} " if delimiter == " " else token for token in tokens]
    return [token.lower() for token in tokens] if settings.get("do_lower_case") else tokens


def min_samples(kernels: list[int], strides: list[int]) -> int:
    """Samples that a stack of unpadded convolutions needs for one output frame."""
    samples = 1
    for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
        samples = (samples - 1) * stride + kernel
    return samples


def _fold_weight_norms(model: nn.Module) -> None:
    """Turn weight-normalized convolutions into plain ones with the product as their weight."""
    for module in list(model.modules()):
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight")


def _fold_batch_norms(model: nn.Module) -> None:
    """Take the Conformer's batch norms into the depthwise convolutions they follow."""
    for module in model.modules():
        conv, norm = (getattr(module, name, None) for name in ("depthwise_conv", "batch_norm"))
        if isinstance(conv, nn.Conv1d) and isinstance(norm, nn.BatchNorm1d):
            module.depthwise_conv = fuse_conv_bn_eval(conv, norm)
            module.batch_norm = nn.Identity()


def _export(model: "PreTrainedModel", path: Path, *, normalize: bool) -> None:
    config: Any = model.config
    shape: list[str | int]
    if hasattr(model, "lm_head"):
        module: nn.Module = CtcModel(model, normalize=normalize)
        shape = ["batch", "frames", config.vocab_size]
    else:
        module = Classifier(model, normalize=normalize)
        shape = ["batch", config.num_labels]
    samples = 12 * min_samples(config.conv_kernel, config.conv_stride)
    with exportable(model):
        graph = trace(
            module.eval(),
            {"pcm": torch.zeros(2, samples)},
            {"logits": shape},
            {"pcm": {0: "batch", 1: "samples"}},
        )
    save(graph, path)


def reference_cases(model: "PreTrainedModel", source: Source) -> list[Case]:
    """PyTorch's logits at three lengths and two batch sizes, with transformers' own front end."""
    from transformers import Wav2Vec2FeatureExtractor

    config: Any = model.config
    settings = feature_extractor(source.folder)
    extractor: Any = Wav2Vec2FeatureExtractor
    extract = extractor(do_normalize=settings["do_normalize"])
    shortest = min_samples(config.conv_kernel, config.conv_stride)
    cases = []
    for samples in (shortest, 20 * shortest + 1, 60 * shortest + 7):
        for batch in (1, 2):
            pcm = probe(batch, samples)
            values = extract(list(pcm), sampling_rate=16000, return_tensors="np")["input_values"]
            with torch.no_grad():
                logits = model(torch.from_numpy(np.asarray(values, np.float32))).logits
            cases.append(Case(pcm, None, logits.numpy()))
    return cases


FAMILY = Family(write_folder, reference_cases)
