"""`python -m compozy_prefect` is the `compozy` command."""

from compozy_prefect.cli import entry

entry()
