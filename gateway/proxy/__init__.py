"""The wire between gateway and workers."""
