"""What goes on now: the numbers, pictures and streams that the console lives on.

`seen` and `past` read, once for all who look, and `follow` streams; the rest is pure.
"""
