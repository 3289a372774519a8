"""Who is awake: workers that nobody asks for sleep, and models of a pool take turns. Pure.

`arrange` says who is to wake and who to fall asleep now. Nothing is remembered between two calls:
who waits for whose place follows from the snapshot, so that it is the same in the next turn.
"""

from pipelines.awake.arrange import Arrangement, arrange

__all__ = ["Arrangement", "arrange"]
