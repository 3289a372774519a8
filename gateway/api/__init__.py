"""What clients speak: requests, answers, the model list, the error envelope."""
