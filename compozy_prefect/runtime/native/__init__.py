"""The built-in tools for files and programs; `call.call` is the way in (language.md §6.5)."""
