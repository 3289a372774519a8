"""What is true: specs, revisions, nodes, claims, workers, keys, usage, audit. The only SQL is here."""
