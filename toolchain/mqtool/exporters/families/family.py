"""What a family of models is to `mqtool export`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mqruntime.bundle.manifest import Manifest
from mqtool.choices import FAMILIES, chosen
from mqtool.exporters.parity import Case
from mqtool.exporters.text_parity import ReferenceTexts

if TYPE_CHECKING:
    from mqtool.exporters.sources.find import Source

__all__ = ["Family", "architectures", "family_of"]


@dataclass(frozen=True)
class Family:
    """A family of models; to add one, see `mqtool.choices.FAMILIES`.

    Attributes:
        write_folder: writes the graphs and the token table of a loaded model; returns the manifest
            that describes them.
        reference_cases: inputs, and what the model itself answers to them.
        load: loads a folder's model, ready for inference; None for transformers' class of the
            architecture's name.
        reference_texts: recordings, and what the model, its processor and its tokenizer make of
            them; None if texts are not compared.
    """

    write_folder: Callable[[Any, "Source", Path], Manifest]
    reference_cases: Callable[[Any, "Source"], list[Case]]
    load: Callable[[Path], Any] | None = None
    reference_texts: Callable[[Any, "Source"], ReferenceTexts] | None = None


def architectures() -> list[str]:
    """Names of the architectures that can be exported, as config.json spells them."""
    return [name for names in FAMILIES.values() for name in names]


def family_of(architecture: str) -> Family:
    """The family of an architecture.

    Raises:
        OptionError: there is none.
    """
    homes = {name: home for home, names in FAMILIES.items() for name in names}
    family: Family = chosen("architecture", architecture, homes)
    return family
