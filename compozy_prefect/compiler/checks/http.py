"""`config` of HTTP tools: what a file writes out that no call could go out with (language.md §6.2).

What comes out of a template is only known when it runs, and says the same then.
"""

from __future__ import annotations

from collections.abc import Iterator

from compozy_prefect.compiler.checks.nouns import called, is_blank, is_template, place
from compozy_prefect.compiler.checks.servers import address, headers
from compozy_prefect.compiler.http_settings import KEYS, RESERVED, VALUES, Settings
from compozy_prefect.diagnostics import Diagnostic, error, warning
from compozy_prefect.language.models.tool import Tool
from compozy_prefect.language.names import nearest
from compozy_prefect.language.nodes import Mapping, Node, Scalar, Sequence


def http(tool: Tool) -> Iterator[Diagnostic]:
    config = tool.node.get("config")
    if config is not None and not isinstance(config, Mapping):
        return  # reported, or a template of all of it
    if config is not None and any(key[:1] == "$" for key in config.entries):
        return
    url = config.get("base_url") if config is not None else None
    near = None
    if config is None or is_blank(url):
        near = nearest("base_url", config.entries) if config is not None else None
        yield error(
            "CZ324",
            f"{called(tool, 'tool')} needs `config.base_url`",
            config.key_span(near) if config is not None and near else place(tool, "type"),
            f"`{near}` looks like it"
            if near
            else "add `config: {base_url: https://…}`, which its calls begin with",
        )
    elif isinstance(url, Scalar) and isinstance(url.value, str):
        yield from address(url, url.value, "CZ324")
    elif url is not None:
        yield error("CZ324", f"`base_url` must be text, not a {url.kind}", url.span)
    if config is None:
        return
    yield from headers(config.get("headers"), RESERVED, "CZ324")
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
