"""MCP servers and their tools (language.md §8): `offering.Servers` and `tools.call` lead in."""
