"""The OpenAI API's forms: requests, answers, the model list, the error envelope."""
