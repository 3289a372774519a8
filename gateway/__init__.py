"""How a request reaches a worker.

The path of a request: key → body, read once → the model's row → a variant by weight → pick →
stream, or prefill and decode → usage counted.

============  ======================================================================
dataplane     the inference listener: routes, and one request from first to last byte
auth          which key is this, and is it still good
openai/       the API's forms: requests, answers, models, the error envelope
routing/      the table made of the registry's snapshot, the choice, what fails lately
proxy/        connections to workers, deadlines, SSE, retries, prefill and decode
refresh       swaps the routing table when the registry has changed
metering/     what requests used, to the registry, through crashes
metrics       Prometheus
admin/        the admin API on its own listener
============  ======================================================================
"""
