"""Other people's files: inputs as they are met in the wild, each with what has to come of it."""
