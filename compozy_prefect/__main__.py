"""`python -m compozy_prefect` is the `compozy` command."""

import sys

from compozy_prefect.cli import main

sys.exit(main())
