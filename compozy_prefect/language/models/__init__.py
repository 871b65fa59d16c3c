"""Nodes → typed nouns, one file a noun. Pydantic stands here and nowhere else in the language."""
