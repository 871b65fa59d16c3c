"""`python -m compozy_prefect` is the `compozy` command."""

from compozy_prefect.cli import entry

if __name__ == "__main__":  # workers of Dask import it too
    entry()
