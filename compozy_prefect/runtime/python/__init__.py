"""Tools that are Python functions of the project, each in a process of its own (§6.1)."""
