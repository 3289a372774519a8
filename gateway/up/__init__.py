"""`modelyard up`: everything on this machine, from an empty folder to two answering models."""

from gateway.up.run import UpError, up

__all__ = ["UpError", "up"]
