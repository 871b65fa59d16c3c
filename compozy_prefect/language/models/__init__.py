"""The nouns of the language, one file a group: which fields each has and what may stand there."""
