"""The language alone, beside the programs that others would take: Jinja2's sandbox and PyYAML."""

from __future__ import annotations

import timeit
from collections.abc import Callable

from jinja2.sandbox import SandboxedEnvironment

from compozy_prefect.expressions import parse

Sample = Callable[[], tuple[float, ...]]  # one number for each measure of the case, in its unit

CONTEXT = {
    "workflow": {
        "id": "bench",
        "input": {
            "user": {"email": "ada@example.com"},
            "rows": [{"name": f"item {index}", "price": index * 15} for index in range(10)],
        },
    }
}
LOOK_UP = ("{{ .workflow.input.user.email }}", "{{ workflow.input.user.email }}")
LOOP = (
    "{{ range .workflow.input.rows }}{{ .name }}: {{ .price }}; {{ end }}",
    "{% for row in workflow.input.rows %}{{ row.name }}: {{ row.price }}; {% endfor %}",
)
READ = """
import sys, time, yaml
from compozy_prefect.language.source import parse
text = open(sys.argv[2], encoding="utf-8").read()
start = time.perf_counter()
if sys.argv[1] == "ours":
    root, found, _ = parse(text, "tasks.yaml")
    assert root is not None and not found
else:
    yaml.load(text, Loader=yaml.CSafeLoader)
print(time.perf_counter() - start)
"""
TASK = """\
  - id: step_{index:04}
    type: basic
    description: "The step number {index}, which says something"
    with:
      text: '{{{{ .tasks.step_{before:04}.output.text | default "x" }}}}'
      numbers: [1, 2.5, {index}]
      nested: {{enabled: true, name: step {index}}}
    on_success:
      next: step_{after:04}
    retries: 3
"""


def rendering(pair: tuple[str, str]) -> tuple[Sample, Sample]:
    """Microseconds to render our template, and Jinja2's of the same text; both are compiled."""
    ours, theirs = parse(pair[0]), SandboxedEnvironment().from_string(pair[1])
    if ours.text(CONTEXT) != theirs.render(CONTEXT):
        raise ValueError(f"{pair[0]} and {pair[1]} differ")
    return _micros(lambda: ours.text(CONTEXT)), _micros(lambda: theirs.render(CONTEXT))


def _micros(call: Callable[[], object], number: int = 20_000) -> Sample:
    return lambda: (timeit.timeit(call, number=number) / number * 1e6,)


def lines(tasks: int) -> str:
    """A YAML file of ten lines for each task, and two more."""
    steps = (
        TASK.format(index=index, before=max(index - 1, 0), after=index + 1)
        for index in range(tasks)
    )
    return "name: tasks\ntasks:\n" + "".join(steps)
