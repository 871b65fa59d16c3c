"""`config` of HTTP tools: what a file writes out that no call could go out with (language.md §6.2).

What comes out of a template is only known when it runs, and says the same then.
"""

from __future__ import annotations

from collections.abc import Iterator

from compozy_prefect.compiler.checks.configs import config_of
from compozy_prefect.compiler.checks.nouns import is_blank, is_template
from compozy_prefect.compiler.checks.servers import address, headers
from compozy_prefect.compiler.http_settings import KEYS, RESERVED, VALUES, Settings
from compozy_prefect.diagnostics import Diagnostic, error, warning
from compozy_prefect.language.models.tool import Tool
from compozy_prefect.language.names import nearest
from compozy_prefect.language.nodes import Mapping, Node, Scalar, Sequence


def http(tool: Tool) -> Iterator[Diagnostic]:
    config = config_of(tool)
    if config is None:
        return
    url = config.entries.get("base_url")
    near = None
    if url is None or is_blank(url):
        near = config.near("base_url")
        way = "add `config: {base_url: https://…}`, which its calls begin with"
        yield config.lacks("base_url", way)
    elif isinstance(url, Scalar) and isinstance(url.value, str):
        yield from address(url, url.value, "CZ324")
    else:
        yield error("CZ324", f"`base_url` must be text, not a {url.kind}", url.span)
    yield from headers(config.entries.get("headers"), RESERVED, "CZ324")
    for key, node in config.entries.items():
        if key in VALUES:
            yield from _value(key, node)
        elif key not in KEYS and key != near:
            like = nearest(key, KEYS)
            hint = f"did you mean `{like}`?" if like else f"it has {', '.join(KEYS)}"
            message = f"the `config` of an HTTP tool has no key `{key}`; it is ignored"
            yield warning("CZ303", message, config.key_span(key), hint)


def _value(key: str, node: Node) -> Iterator[Diagnostic]:
    if _is_known(node):
        try:
            Settings.of({key: node.data()})
        except ValueError as fault:
            message, _, hint = str(fault).partition("; ")
            yield error("CZ324", message, node.span, hint or None)


def _is_known(node: Node) -> bool:
    """Whether nothing in it is a template."""
    if isinstance(node, Mapping):
        return all(map(_is_known, node.entries.values()))
    if isinstance(node, Sequence):
        return all(map(_is_known, node.items))
    return not (isinstance(node, Scalar) and is_template(str(node.value)))
