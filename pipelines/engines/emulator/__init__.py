"""The emulator: an engine without a model, for load and for faults."""

from pipelines.engines.emulator.adapter import EmulatorEngine

__all__ = ["EmulatorEngine"]
