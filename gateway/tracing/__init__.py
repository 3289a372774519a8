"""OpenTelemetry traces: one a request, over both legs of a pair.

While a request is served only times are kept (`trace.py`, pure); when it is over what was sampled
becomes spans (`spans.py`), which leave in a thread of their own (`otlp.py`). Those two are loaded
only where traces are wanted. No text of a prompt, no key and no token ever gets into one.
"""

from gateway.tracing.trace import Step, Trace, Tracer

__all__ = ["Step", "Trace", "Tracer"]
