"""Wav2Vec2 and its relatives as one graph: PCM to CTC or classification logits."""

from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mqruntime.bundle.manifest import RATES, Manifest
from mqtool.errors import ExportError, OptionError
from mqtool.exporters.ctc_tokenizer import read_ctc_tokens
from mqtool.exporters.families.family import Family
from mqtool.exporters.families.wav2vec2_reference import reference_texts
from mqtool.exporters.graphs import save, trace
from mqtool.exporters.parity import Case, probe
from mqtool.exporters.patches import exportable
from mqtool.exporters.sources.checks import read_feature_extractor
from mqtool.exporters.sources.find import Source
from mqtool.exporters.tokenizer import VOCABULARY, write_vocabulary

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
    "write_tokens",
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
    shortest = min_samples(config)
    manifest = write_tokens(model, source, folder, settings["sampling_rate"], shortest)
    _fold_weight_norms(model)
    _fold_batch_norms(model)
    _export(model, folder / GRAPH, normalize=settings["do_normalize"])
    return manifest


def write_tokens(model: Any, source: Source, folder: Path, rate: int, shortest: int) -> Manifest:
    """Write the token table of a CTC model; return the manifest of a model of one graph.

    Args:
        model: transformers', with a CTC or a classification head.
        source: where it is from.
        folder: where to.
        rate: of its recordings, in Hz.
        shortest: samples that it takes at least.

    Raises:
        ExportError: the tokenizer or a label is missing or malformed.
        OptionError: `source.language` is given, and there is nothing it could choose.
    """
    config = model.config
    is_ctc, ctc = hasattr(model, "lm_head"), None
    if is_ctc:
        tokens, ctc = read_ctc_tokens(
            source.folder, config.vocab_size, config.pad_token_id, source.language
        )
        write_vocabulary(tokens, folder / VOCABULARY)
    elif source.language is not None:
        raise OptionError(f"language {source.language!r}: a model of labels has none; leave it out")
    return Manifest(
        family=config.model_type,
        task="ctc" if is_ctc else "keywords",
        sample_rate=rate,
        graphs={"model": GRAPH},
        vocabulary=VOCABULARY if is_ctc else None,
        labels=[] if is_ctc else _labels(config, source.folder),
        min_samples=shortest,
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
    settings = read_feature_extractor(folder)
    if settings is None:
        raise ExportError(
            f"{folder}: whether this model wants normalized audio is not known; copy the file here "
            "(no preprocessor_config.json)"
        )
    settings = {"do_normalize": True, "sampling_rate": 16000, **settings}
    rate = settings["sampling_rate"]
    if type(rate) is not int or rate not in RATES:
        raise ExportError(
            f"{folder}: the feature extractor's sampling_rate is {rate!r}, not {RATES.start} to "
            f"{RATES.stop - 1}"
        )
    return settings


def min_samples(config: Any) -> int:
    """Samples of the shortest input that transformers' model takes.

    Its convolutions are unpadded, but for those of the adapter, which take one frame more on each
    side; SEW pools frames; and a norm over the time of one frame is refused by PyTorch.
    """
    samples: int = 1
    if getattr(config, "add_adapter", False):
        for _ in range(getattr(config, "num_adapter_layers", 0)):  # HuBERT has the switch alone
            samples = max((samples - 1) * config.adapter_stride + config.adapter_kernel_size - 2, 1)
    samples = max(samples, getattr(config, "squeeze_factor", 1))
    layers: list[tuple[int, int]] = list(zip(config.conv_kernel, config.conv_stride, strict=True))
    for kernel, stride in reversed(layers[1:]):
        samples = (samples - 1) * stride + kernel
    if getattr(config, "feat_extract_norm", "layer") == "group":
        samples = max(samples, 2)
    kernel, stride = layers[0]
    return (samples - 1) * stride + kernel


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
    samples = 12 * min_samples(config)
    with exportable(model):
        graph = trace(
            module.eval(),
            {"pcm": torch.zeros(2, samples)},
            {"logits": shape},
            {"pcm": {0: "batch", 1: "samples"}},
        )
    save(graph, path)


def reference_cases(model: "PreTrainedModel", source: Source) -> list[Case]:
    """PyTorch's logits at four lengths and two batch sizes, with transformers' own front end.

    Two of the lengths are a frame apart: what joins frames in pairs has one left over at either.
    """
    from transformers import Wav2Vec2FeatureExtractor

    config: Any = model.config
    _check_positions(config, source.folder / "config.json")
    settings = feature_extractor(source.folder)
    extractor: Any = Wav2Vec2FeatureExtractor
    rate = settings["sampling_rate"]
    extract = extractor(do_normalize=settings["do_normalize"], sampling_rate=rate)
    shortest = min_samples(config)
    some = 20 * shortest + 1
    cases = []
    for samples in (shortest, some, some + prod(config.conv_stride), 60 * shortest + 7):
        for batch in (1, 2):
            pcm = probe(batch, samples)
            values = extract(list(pcm), sampling_rate=rate, return_tensors="np")["input_values"]
            logits = _answer(model, torch.from_numpy(np.asarray(values, np.float32)), source)
            cases.append(Case(pcm, None, logits.numpy()))
    return cases


def _check_positions(config: Any, path: Path) -> None:
    """Refuse positions that transformers takes, and then divides by zero for or cannot multiply."""
    buckets = getattr(config, "num_buckets", 4)
    if buckets < 4:
        raise ExportError(f"{path}: num_buckets is {buckets}, less than 4; copy the file again")
    farthest = getattr(config, "max_bucket_distance", buckets)
    if farthest <= buckets // 4:
        raise ExportError(
            f"{path}: max_bucket_distance is {farthest}, not above {buckets // 4}, a quarter of "
            "num_buckets; copy the file again"
        )
    size = config.hidden_size // config.num_attention_heads
    if getattr(config, "position_embeddings_type", None) == "rotary" and size % 2:
        raise ExportError(
            f"{path}: position_embeddings_type is 'rotary', which needs heads of an even size, not "
            f"{size} (hidden_size by num_attention_heads); copy the file again"
        )


def _answer(model: "PreTrainedModel", values: Tensor, source: Source) -> Tensor:
    """The model's own logits.

    Raises:
        ExportError: transformers builds a model of these settings, but cannot run it.
    """
    try:
        with torch.no_grad():
            logits: Tensor = model(values).logits
    except Exception as error:  # whatever it is, it comes from what config.json says
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ExportError(
            f"{source.folder / 'config.json'}: transformers cannot run such a model ({reason}); "
            "copy the file again"
        ) from None
    return logits


FAMILY = Family(write_folder, reference_cases, reference_texts=reference_texts)
