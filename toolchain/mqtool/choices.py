"""What there is to choose from, without importing any of it.

Each name stands for `module:attribute`. To add a method, a calibration or a family of models, write
its file and a line here; a program of your own may add its lines to these tables too.
"""

import importlib
from collections.abc import Collection, Mapping
from typing import Any

from mqtool.errors import OptionError

__all__ = [
    "ACTIVATIONS",
    "CALIBRATIONS",
    "DISTANCES",
    "EFFORTS",
    "FAMILIES",
    "METHODS",
    "REDUCTIONS",
    "ROUNDINGS",
    "SENSITIVITIES",
    "STORAGES",
    "check_known",
    "chosen",
]

METHODS = {
    "measured": "mqtool.planning.methods.measured:METHOD",
    "myqasr": "mqtool.planning.methods.myqasr:METHOD",
    "uniform": "mqtool.planning.methods.uniform:METHOD",
    "minmax": "mqtool.planning.methods.minmax:METHOD",
    "shuffled": "mqtool.planning.methods.shuffled:METHOD",
    "reversed": "mqtool.planning.methods.reversed:METHOD",
}
"""How bits are shared out: `mqtool.planning.methods.method.Method`."""

CALIBRATIONS = {
    "none": "mqtool.planning.calibrations.fixed:NONE",
    "minmax": "mqtool.planning.calibrations.fixed:MINMAX",
    "l1": "mqtool.planning.calibrations.searched:L1",
    "l2": "mqtool.planning.calibrations.searched:L2",
    "linw-l2": "mqtool.planning.calibrations.searched:LINW_L2",
    "sqw-l2": "mqtool.planning.calibrations.searched:SQW_L2",
    "hess": "mqtool.planning.calibrations.searched:HESS",
    "cosine": "mqtool.planning.calibrations.searched:COSINE",
}
"""How ranges of static activations are chosen: `mqtool.planning.calibrations.calibration`."""

FAMILIES = {
    "mqtool.exporters.families.whisper:FAMILY": ("WhisperForConditionalGeneration",),
    "mqtool.exporters.families.moonshine:FAMILY": ("MoonshineForConditionalGeneration",),
    "mqtool.exporters.families.moonshine_streaming:FAMILY": (
        "MoonshineStreamingForConditionalGeneration",
    ),
    "mqtool.exporters.families.parakeet_transducer:FAMILY": (
        "ParakeetForTDT",
        "ParakeetForRNNT",
    ),
    "mqtool.exporters.families.wav2vec2:FAMILY": (
        "Wav2Vec2ForCTC",
        "Wav2Vec2ForSequenceClassification",
        "Wav2Vec2ConformerForCTC",
        "Wav2Vec2ConformerForSequenceClassification",
        "HubertForCTC",
        "HubertForSequenceClassification",
        "WavLMForCTC",
        "WavLMForSequenceClassification",
        "Data2VecAudioForCTC",
        "Data2VecAudioForSequenceClassification",
        "UniSpeechForCTC",
        "UniSpeechForSequenceClassification",
        "UniSpeechSatForCTC",
        "UniSpeechSatForSequenceClassification",
        "SEWForCTC",
        "SEWForSequenceClassification",
        "SEWDForCTC",
        "SEWDForSequenceClassification",
    ),
    "mqtool.exporters.families.wav2vec2_bert:FAMILY": (
        "Wav2Vec2BertForCTC",
        "Wav2Vec2BertForSequenceClassification",
    ),
    "mqtool.exporters.families.parakeet:FAMILY": ("ParakeetForCTC",),
}
"""`mqtool.exporters.families.family.Family` -> the architectures, as config.json names them."""

REDUCTIONS = ("median", "mean", "max", "absmax", "std")
DISTANCES = ("l1", "l2", "spectral", "frobenius", "kl")
SENSITIVITIES = (*REDUCTIONS, *DISTANCES)
"""What layers are ranked by: a reduction of a layer's output, or its distance from the output with
the weight rounded (`mqtool.planning.sensitivity`)."""

ROUNDINGS = ("nearest", "clipped", "grouped", "compensated")
"""How weights are rounded (`mqtool.quantization.rounding`)."""

ACTIVATIONS = ("dynamic", "static", "float")
"""How the packed model computes."""

EFFORTS = ("quick", "full")
"""How `measured` finds what rounding does: by gradients, or by running the model for each layer."""

STORAGES = ("auto", "coded", "planes")
"""How packed weights are stored: int8 codes, entropy-coded (`mqtool.packing.coded_rewrite`), or
whole numbers of bits in planes (`mqtool.quantization.weights`); auto takes what suits method and
size."""


def check_known(kind: str, name: str, known: Collection[str]) -> None:
    """Refuse a name that is none of those there are.

    Raises:
        OptionError: naming `kind`, the name and what there is.
    """
    if name not in known:
        raise OptionError(f"{kind} {name!r} is unknown; there is {', '.join(known)}")


def chosen(kind: str, name: str, table: Mapping[str, str]) -> Any:
    """What a name stands for, imported.

    Args:
        kind: of thing, for the message.
        name: as the caller gave it.
        table: one of those above.

    Raises:
        OptionError: there is no such name.
    """
    check_known(kind, name, table)
    module, _, attribute = table[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
