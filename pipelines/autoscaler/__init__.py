"""How many workers each role needs by its load. Pure: values in, decisions out, no clock.

`load.py` tells what a role's load is, `decide.py` what follows from it.
"""

from pipelines.autoscaler.decide import Autoscaler, Scaling, is_autoscaled
from pipelines.autoscaler.load import Load

__all__ = ["Autoscaler", "Load", "Scaling", "is_autoscaled"]
