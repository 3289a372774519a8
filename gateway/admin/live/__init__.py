"""What goes on now: the numbers, pictures and streams that the console lives on.

`rates`, `overview`, `flow` and `series` are pure; `seen` is the shell that looks once for all who
watch.
"""
