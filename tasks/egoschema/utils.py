"""The functions that the YAML file here names; lmms-eval loads this file by its path."""

from probes.integrations.lmms_egoschema import docs, messages, process_results, text, visual

__all__ = ["docs", "messages", "process_results", "text", "visual"]
