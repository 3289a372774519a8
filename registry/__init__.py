"""What is true: specs, revisions, nodes, workers, claims, keys, usage. The only SQL is here."""
