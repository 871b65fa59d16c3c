"""All template functions by name, the names that are refused, and where a piped value goes.

In: the tables of the groups. Out: FUNCTIONS, REFUSED and `arrange`. Each group is a module with
one table; a name in two tables is a mistake that stops the import.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from compozy_prefect.expressions.functions.comparison import COMPARISON
from compozy_prefect.expressions.functions.contract import Function
from compozy_prefect.expressions.functions.dates import DATES
from compozy_prefect.expressions.functions.dicts import DICTS
from compozy_prefect.expressions.functions.encoding import ENCODING
from compozy_prefect.expressions.functions.gofmt import FORMATTING
from compozy_prefect.expressions.functions.jsons import JSONS
from compozy_prefect.expressions.functions.lists import LISTS
from compozy_prefect.expressions.functions.numbers import NUMBERS
from compozy_prefect.expressions.functions.outside import OUTSIDE
from compozy_prefect.expressions.functions.paths import PATHS
from compozy_prefect.expressions.functions.queries import QUERIES
from compozy_prefect.expressions.functions.regexes import REGEXES
from compozy_prefect.expressions.functions.strings import STRINGS
from compozy_prefect.expressions.functions.types import TYPES
from compozy_prefect.expressions.functions.versions import VERSIONS
from compozy_prefect.expressions.functions.words import WORDS

GROUPS: tuple[Iterable[Function], ...] = (
    COMPARISON,
    DATES,
    DICTS,
    ENCODING,
    FORMATTING,
    JSONS,
    LISTS,
    NUMBERS,
    OUTSIDE,
    PATHS,
    QUERIES,
    REGEXES,
    STRINGS,
    TYPES,
    VERSIONS,
    WORDS,
)


def _merged() -> dict[str, Function]:
    merged: dict[str, Function] = {}
    for group in GROUPS:
        for function in group:
            if function.name in merged:
                raise ValueError(f"two template functions are named {function.name}")
            merged[function.name] = function
    return merged


FUNCTIONS: Mapping[str, Function] = MappingProxyType(_merged())

_KEYS = "keys and certificates are not made in templates: use your provider's secret store"
_PASSWORDS = "passwords are not hashed or derived in templates"
_CIPHERS = "templates do not encrypt: use a tool"

REFUSED: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(
            (
                "genPrivateKey",
                "genCA",
                "genCAWithKey",
                "genSelfSignedCert",
                "genSelfSignedCertWithKey",
                "genSignedCert",
                "genSignedCertWithKey",
                "buildCustomCert",
            ),
            _KEYS,
        ),
        **dict.fromkeys(("bcrypt", "htpasswd", "derivePassword"), _PASSWORDS),
        **dict.fromkeys(("encryptAES", "decryptAES"), _CIPHERS),
        "randBytes": "random bytes are not text: use randAlphaNum or uuidv4",
        "getHostByName": "templates do not look up names on the network: use a tool",
        "call": "values are data, never functions: use the function's name",
    }
)


def arrange(
    function: Function, piped: object, args: Sequence[object], parenthesised: bool = False
) -> list[object]:
    """The arguments of `piped | function args` in prefix order (language.md §11.1 rule 3).

    `parenthesised`: the author wrote `piped | function(args)`, which puts the piped value where
    Jinja's readers expect it for the few functions whose subject stands in the middle.
    """
    if parenthesised and function.in_parentheses is not None:
        at = function.in_parentheses
        return [*args[:at], piped, *args[at:]]
    match function.subject:
        case "first":
            return [piped, *args]
        case "collection":
            # `.d | get "k"` names the collection first, `"k" | get .d` is Go's order.
            subjects = (
                (list, dict, str) if function.name in ("slice", "mustSlice") else (list, dict)
            )
            if isinstance(piped, (*subjects, type(None))) and not (
                args and isinstance(args[0], subjects)
            ):
                return [piped, *args]
    if function.name == "list" and not args and isinstance(piped, list):
        # Jinja's filter `| list` (§11.1 rule 8): a list stays as it is.
        return list(piped)
    return [*args, piped]
