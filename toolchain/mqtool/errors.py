"""mqtool's exceptions, on top of mqruntime's tree (`mqruntime.errors`)."""

from mqruntime.errors import AudioError, ManifestError, ModelError, MqError

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
    "ParityError",
    "PlanError",
]


class ClipsError(MqError):
    """A set of recordings (folder, files or manifest) that cannot be used."""


class ExportError(MqError):
    """A model source that cannot be turned into float graphs."""


class ParityError(ExportError):
    """Graphs that disagree with their reference; the message holds the figure."""


class MissingPackageError(MqError):
    """Work that needs a package of an extra that is not installed."""


class OptionError(MqError):
    """An option's value that is not known, or options that do not go together: wrong usage."""


class PlanError(MqError):
    """A plan that is malformed or does not belong to the model."""


class BudgetError(PlanError):
    """A storage budget outside the feasible range; the message gives the nearest feasible size."""


class PackError(MqError):
    """A packed model that could not be written as planned."""
