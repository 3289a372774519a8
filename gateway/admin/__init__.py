"""The admin API: the operator's side of the gateway, on a listener and with keys of its own."""
