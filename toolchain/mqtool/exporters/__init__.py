"""Model source -> float graphs with their front end, token table and manifest."""

from mqtool.exporters.pipeline import ExportResult, export_model

__all__ = ["ExportResult", "export_model"]
