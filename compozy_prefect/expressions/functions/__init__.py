"""The functions of templates: Go's built-ins, Sprig v3 and the language's own, on plain data."""

from compozy_prefect.expressions.functions.contract import (
    Environment,
    Function,
    FunctionError,
    Made,
)
from compozy_prefect.expressions.functions.registry import FUNCTIONS, REFUSED, arrange
from compozy_prefect.expressions.functions.values import (
    Version,
    compare,
    equal,
    plain,
    same,
    to_text,
    truth,
)

__all__ = [
    "FUNCTIONS",
    "REFUSED",
    "Environment",
    "Function",
    "FunctionError",
    "Made",
    "Version",
    "arrange",
    "compare",
    "equal",
    "plain",
    "same",
    "to_text",
    "truth",
]
