"""How engines are best set and how fast they are, measured on workers that run.

*knee* and *batches* are pure, and *subject* says who is measured; *prefill* measures over HTTP.
"""
