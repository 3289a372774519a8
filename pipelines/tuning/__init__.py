"""How engines are best set, measured on workers that run.

*knee* and *batches* are pure; *prefill* measures over HTTP; *proposed* makes a spec of the answer.
"""
