"""A speech-recognition model in N kilobytes, quantized for one person, for ONNX Runtime.

    import mqtool

    model = mqtool.export("openai/whisper-tiny.en", output="model/")
    packed = mqtool.quantize(
        model, budget_kb=12_000, recordings="recordings/", output="packed/"
    )
    print(packed.bytes, packed.average_bits, packed.validation.word_difference)

Names are imported when they are first used, so that `import mqtool` costs nothing.
"""

from typing import TYPE_CHECKING

import mqruntime  # sets ORT_DISABLE_TELEMETRY before anything can load onnxruntime
from mqruntime._lazy import lazy_names

if TYPE_CHECKING:
    from mqruntime.errors import AudioError, ManifestError, ModelError, MqError
    from mqtool.api.bundling import expand, keygen, package
    from mqtool.api.measuring import bench, evaluate, inspect, transcribe, validate
    from mqtool.api.quantizing import export, pack, plan, quantize
    from mqtool.api.results import PackedModel
    from mqtool.api.sizing import sizes
    from mqtool.errors import (
        BudgetError,
        ClipsError,
        ExportError,
        MissingPackageError,
        OptionError,
        PackError,
        ParityError,
        PlanError,
    )
    from mqtool.experiments.api import ablate, choose, matrix, sweep
    from mqtool.packing.plan_file import Plan

__all__ = [
    "AudioError",
    "BudgetError",
    "ClipsError",
    "ExportError",
    "ManifestError",
    "MissingPackageError",
    "ModelError",
    "MqError",
    "OptionError",
    "PackError",
    "PackedModel",
    "ParityError",
    "Plan",
    "PlanError",
    "__version__",
    "ablate",
    "bench",
    "choose",
    "evaluate",
    "expand",
    "export",
    "inspect",
    "keygen",
    "matrix",
    "pack",
    "package",
    "plan",
    "quantize",
    "sizes",
    "sweep",
    "transcribe",
    "validate",
]

__version__ = mqruntime.__version__

_ERRORS = [name for name in __all__ if name.endswith("Error")]

__getattr__ = lazy_names(
    __name__,
    {
        **dict.fromkeys(_ERRORS, "mqtool.errors"),
        **dict.fromkeys(["expand", "keygen", "package"], "mqtool.api.bundling"),
        **dict.fromkeys(
            ["bench", "evaluate", "inspect", "transcribe", "validate"], "mqtool.api.measuring"
        ),
        **dict.fromkeys(["export", "pack", "plan", "quantize"], "mqtool.api.quantizing"),
        **dict.fromkeys(["ablate", "choose", "matrix", "sweep"], "mqtool.experiments.api"),
        "PackedModel": "mqtool.api.results",
        "Plan": "mqtool.packing.plan_file",
        "sizes": "mqtool.api.sizing",
    },
)
