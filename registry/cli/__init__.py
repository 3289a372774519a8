"""`modelyard`: an HTTP client of the admin API, for people (tables) and scripts (exit codes)."""
