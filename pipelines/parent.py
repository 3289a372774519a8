"""A child of `modelyard up` ends with it, however it ends."""

import os

from pipelines.cluster.linux import die_with_parent

PARENT_VARIABLE = "MODELYARD_PARENT_PID"


def follow_parent() -> None:
    """Asks for SIGTERM at the parent's death, where `up` named itself as the parent."""
    if parent := os.environ.get(PARENT_VARIABLE):
        die_with_parent(int(parent))
