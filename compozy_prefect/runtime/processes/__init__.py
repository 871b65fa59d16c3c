"""Processes that do the work of tools: started, bounded, watched, used again, and ended."""
