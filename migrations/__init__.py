"""Alembic's scripts. `python -m migrations "add a column"` writes the next one."""
