"""Templates that look for Python behind the data find data or nothing (F6)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from compozy_prefect.expressions import TemplateError, parse, parse_condition, render, render_text

CONTEXT: dict[str, Any] = {
    "text": "abc",
    "list": [1, "b", {"k": "v"}],
    "map": {"a": 1, "keys": "data", "__class__": "dunder data"},
    "n": 7,
    "f": 1.5,
    "yes": True,
    "nothing": None,
    "env": {"MODE": "test"},
    "workflow": {"id": "wf", "input": {}},
    "tasks": {"a": {"output": {"x": 1}}},
}

TEMPLATES = [
    "{{ .__class__ }}",
    "{{ .__class__.__mro__ }}",
    "{{ .__dict__ }}",
    "{{ $.__class__ }}",
    "{{ .text.__class__ }}",
    "{{ .text.__class__.__mro__ }}",
    "{{ .text.__class__.__mro__[1].__subclasses__() }}",
    "{{ .text.upper }}",
    "{{ .text.upper() }}",
    "{{ .text.format }}",
    '{{ .text.format("x") }}',
    "{{ .text.join }}",
    "{{ .text.0 }}",
    "{{ .text[0] }}",
    "{{ .text[0].__class__ }}",
    "{{ .text.encode }}",
    "{{ .list.append }}",
    "{{ .list.append(1) }}",
    "{{ .list.__class__ }}",
    "{{ .list.__len__ }}",
    "{{ .list.pop }}",
    "{{ .list.sort() }}",
    '{{ .list["__class__"] }}',
    "{{ .list.2.items }}",
    "{{ .map.items }}",
    "{{ .map.items() }}",
    "{{ .map.values }}",
    "{{ .map.get }}",
    '{{ .map.get("a") }}',
    "{{ .map.update }}",
    "{{ .map.__init__ }}",
    "{{ .map.__class__.__base__ }}",
    "{{ .map.__getattribute__ }}",
    '{{ .map["__init__"]["__globals__"] }}',
    "{{ .n.real }}",
    "{{ .n.bit_length }}",
    "{{ .n.__class__ }}",
    "{{ .f.hex }}",
    "{{ .f.as_integer_ratio() }}",
    "{{ .yes.__class__ }}",
    "{{ .nothing.__class__ }}",
    "{{ .env.__class__ }}",
    "{{ .env.HOME }}",
    "{{ .env.PATH }}",
    '{{ env "HOME" }}',
    '{{ expandenv "$HOME $PATH" }}',
    "{{ .workflow.__globals__ }}",
    "{{ .tasks.__class__ }}",
    "{{ .tasks.a.__class__.__name__ }}",
    "{{ .tasks.a.output.x.__class__ }}",
    "{{ self }}",
    "{{ config }}",
    "{{ request.application.__globals__ }}",
    "{{ cycler.__init__.__globals__.os }}",
    "{{ lipsum.__globals__ }}",
    '{{ __import__("os") }}',
    '{{ eval("1") }}',
    '{{ getattr .text "__class__" }}',
    '{{ .text | attr "__class__" }}',
    '{{ index .map "__init__" }}',
    '{{ index .text "__class__" }}',
    "{{ index .text 0 }}",
    '{{ get .map "__init__" }}',
    '{{ get .text "__class__" }}',
    '{{ dig "__init__" "__globals__" "none" .map }}',
    '{{ pluck "__init__" .map }}',
    '{{ pick .map "__init__" "__doc__" }}',
    '{{ .list | map("__class__") }}',
    '{{ .list | map("__class__.__mro__") }}',
    '{{ .list | map(attr="__class__") }}',
    '{{ .list | filter("__class__", "x") }}',
    '{{ .list | selectattr("__class__") }}',
    '{{ .list | sort("__class__") }}',
    '{{ .list | group("__class__") }}',
    '{{ printf "{0.__class__}" .text }}',
    '{{ printf "%(x)s" .text }}',
    '{{ printf "%s" .map }}',
    '{{ "{0.__class__}" }}',
    '{{ "%s".__class__ }}',
    '{{ "abc".upper }}',
    "{{ [].__class__ }}",
    "{{ ().__class__ }}",
    "{{ (.text).__class__ }}",
    "{{ (list 1).__class__ }}",
    "{{ (dict).__class__ }}",
    "{{ (dict).fromkeys }}",
    "{{ now.__class__ }}",
    "{{ (now).year }}",
    "{{ (now).strftime }}",
    '{{ (semver "1.2.3").__class__ }}',
    '{{ (semver "1.2.3").items }}',
    "{{ upper.__globals__ }}",
    "{{ upper.__globals__.os }}",
    "{{ call .text }}",
    "{{ typeOf .map }}",
    "{{ kindOf .nothing }}",
    "{{ $x := .text }}{{ $x.__class__ }}",
    "{{ with .text }}{{ .__class__ }}{{ end }}",
    "{{ range .list }}{{ .__class__ }}{{ end }}",
    "{{ range .text.__class__.__mro__ }}{{ . }}{{ end }}",
    "{{ if .text.__class__ }}{{ .text.__class__ }}{{ end }}",
    '{{ .text.__class__ | default "none" }}',
    '{{ define "t" }}{{ $.__class__ }}{{ end }}{{ template "t" .map }}',
    '{{ set .map "a" 2 | toJson }}',
    '{{ getHostByName "localhost" }}',
    '{{ include "/etc/passwd" }}',
    '{{ readFile "/etc/passwd" }}',
    "{{ .tools.shell.run(.text) }}",
]
CONDITIONS = [
    "text.__class__",
    "text.upper()",
    "list.append(1)",
    "map.__class__.__mro__",
    "n.bit_length()",
    "list.map(x, x.__class__)",
    "list.exists(__class__, __class__.__mro__)",
    "__import__('os').system('id')",
    "().__class__",
    "type(text)",
    "dyn(text)",
    "text.format(map)",
    "text.size.__class__",
]

# What would be in the text if Python showed through.
TRACES = (
    "<class",
    "<built-in",
    "<function",
    "<bound",
    "object at 0x",
    "mappingproxy",
    "/root",
    "/bin",
)


def shown(evaluate: Callable[[], Any]) -> str:
    """All that the author of a template gets to see: the value as JSON, or the error."""
    try:
        return json.dumps(evaluate())
    except TemplateError as error:
        return f"{error.message}\n{error.hint}"


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_sees_data_only(template: str) -> None:
    before = json.dumps(CONTEXT)
    for evaluate in (render, render_text):
        seen = shown(lambda evaluate=evaluate: evaluate(template, CONTEXT))
        assert not [trace for trace in TRACES if trace in seen]
    assert json.dumps(CONTEXT) == before


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_condition_too(condition: str) -> None:
    before = json.dumps(CONTEXT)
    seen = shown(lambda: parse_condition(condition).native(CONTEXT))
    assert not [trace for trace in TRACES if trace in seen]
    assert json.dumps(CONTEXT) == before


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("{{ .map.__class__ }}", "dunder data"),
        ("{{ .map.keys }}", "data"),
        ("{{ .map.items }}", None),
        ('{{ dig "__init__" "none" .map }}', "none"),
        ('{{ "{0.__class__}" }}', "{0.__class__}"),
        ("{{ .env.HOME }}", None),
        ('{{ env "HOME" }}', ""),
    ],
)
def test_a_key_is_a_key_whatever_its_name(template: str, value: Any) -> None:
    assert render(template, CONTEXT) == value


class Object:
    """Something of the program that strayed into a context."""

    secret = "sk-secret"

    def __len__(self) -> int:
        return 1


@pytest.mark.parametrize(
    "template",
    [
        "{{ .o.secret }}",
        '{{ .o["secret"] }}',
        "{{ .o.0 }}",
        '{{ index .o "secret" }}',
        "{{ range .o }}{{ . }}{{ end }}",
        "x{{ .o }}",
        "{{ .o | toJson }}",
        '{{ printf "%v" .o }}',
        "{{ .o | map('secret') }}",
        "{{ .o.__class__ }}",
    ],
)
def test_an_object_stays_closed(template: str) -> None:
    assert "sk-secret" not in shown(lambda: str(render(template, {"o": Object()})))


def test_a_call_of_a_tool_is_left_to_the_prompt() -> None:
    template = parse("{{ .tools.crm.find(.text) }}")
    template.compile()
    with pytest.raises(TemplateError, match="a tool cannot be called from this template"):
        template.text({**CONTEXT, "tools": {"crm": {}}})
