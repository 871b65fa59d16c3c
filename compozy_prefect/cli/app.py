"""The commands and the global flags. A command's module is imported when it is called."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Parameter

from compozy_prefect import __version__
from compozy_prefect.cli import USAGE


@dataclass(slots=True)
class Settings:
    """The global flags of this call."""

    debug: bool = False
    quiet: bool = False
    env_file: Path | None = None
    # Settings of the project that flags give, by their key.
    flags: dict[str, str] = field(default_factory=dict)


SETTINGS = Settings()

app = App(
    name="compozy",
    help="AI-agent workflows in YAML, compiled to Prefect flows.",
    version=__version__,
    version_flags=["--version"],
    result_action="return_value",
)

_SCHEMA = """Print the JSON Schema of a file, for editors.

Without a KIND it lists the kinds. In VS Code, with the YAML extension of Red Hat, write the
schemas once

```
compozy schema project -o .vscode/compozy.json
compozy schema workflow -o .vscode/workflow.json
```

and begin each file with a line that names its own, by the path from the file:

```
# yaml-language-server: $schema=.vscode/compozy.json
```

Or say in `.vscode/settings.json` which files have which schema:

```
"yaml.schemas": {".vscode/workflow.json": "workflows/*.yaml"}
```
"""

# Help stands here too, so that `compozy --help` imports no command.
_COMMANDS = {
    "validate": ("project:validate", "Say what is wrong with a project; nothing is executed."),
    "plan": ("project:plan", "Print the plan: all that a run needs, as canonical JSON."),
    "graph": ("graph:graph", "Draw the workflows of a project."),
    "test": (
        "test:run_tests",
        "Run the tests of a project: what goes in, and what is to come out.",
    ),
    "run": ("run:run", "Run a workflow as a Prefect flow and print its output."),
    "prompt": ("prompt:prompt", "Print what a task would ask its model, unsent."),
    "runs": ("executions:runs", "List the latest executions."),
    "show": ("executions:show", "Tell the story of an execution."),
    "pause": ("executions:pause", "Hold an execution before its next step."),
    "resume": ("executions:resume", "Continue one that is paused, or whose process has ended."),
    "signal": ("executions:signal", "Send a signal to an execution."),
    "cancel": ("executions:cancel", "Cancel an execution."),
    "compile": ("project:compile", "Write a directory that `prefect deploy` takes."),
    "deploy": ("deploy:deploy", "Compile a project and deploy it to the Prefect server."),
    "tool call": ("tool:call", "Call one tool, and print its result."),
    "supervise": ("deploy:supervise", "Look after deployed runs whose process dies."),
    "blocks apply": ("blocks:apply", "Create and update Prefect's blocks from files."),
    "render": ("render:render", "Evaluate one template."),
    "schema": ("schema:schema", _SCHEMA),
    "config show": ("config:show", "Print all settings and their values, without secrets."),
    "config validate": ("config:validate", "Say what is wrong with the settings."),
    "config diagnostics": ("config:diagnostics", "Say where each setting comes from."),
    "mcp list": ("mcp:list_", "List the MCP servers of a project; none is started."),
    "mcp tools": ("mcp:tools", "Start or reach an MCP server, and list its tools."),
    "mcp call": ("mcp:call", "Call a tool of an MCP server."),
    "mcp resources": ("mcp:resources", "Start or reach an MCP server, and list its resources."),
    "mcp prompts": ("mcp:prompts", "Start or reach an MCP server, and list its prompts."),
    "mcp read": ("mcp:read", "Read a resource of an MCP server."),
    "mcp prompt": ("mcp:prompt", "Fill in a prompt of an MCP server."),
    "mcp lock": ("mcp:lock", "Write down what the MCP servers have."),
    "explain": ("project:explain", "Explain a diagnostic."),
    "prefect start": ("prefect:start", "Start the local Prefect server in the background."),
    "prefect stop": ("prefect:stop", "Stop it."),
    "prefect status": ("prefect:status", "Say whether it runs, and where."),
    "version": ("project:version", "Print versions."),
}

_GROUPS = {
    "blocks": App(name="blocks", help="Blocks of Prefect as files: secrets, storage."),
    "config": App(
        name="config", help="Settings: of flags, the project file, the environment, defaults."
    ),
    "mcp": App(name="mcp", help="MCP servers, which agents and prompts use."),
    "prefect": App(name="prefect", help="The local Prefect server, which runs and shows flows."),
    "tool": App(name="tool", help="Tools, tried out one by one."),
}
for _app in _GROUPS.values():
    app.command(_app)
for _name, (_target, _help) in _COMMANDS.items():
    _group, _, _command = _name.rpartition(" ")
    _GROUPS.get(_group, app).command(f"compozy_prefect.cli.{_target}", name=_command, help=_help)

# What flags of settings begin with; `config diagnostics --verbose` lists them.
_OF_SETTINGS = ("--llm-", "--max-", "--task-runner", "--tool-execution-")

# Left to `main`, which says so and has the exit code.
app.suppress_keyboard_interrupt = app.meta.suppress_keyboard_interrupt = False


@app.meta.default
def _launch(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    debug: Annotated[bool, Parameter(negative="")] = False,
    quiet: Annotated[bool, Parameter(negative="")] = False,
    env_file: Path | None = None,
) -> Any:
    """AI-agent workflows in YAML, compiled to Prefect flows.

    Parameters
    ----------
    debug
        Show tracebacks.
    quiet
        Only results and errors.
    env_file
        Environment file to read instead of the project's .env.
    """
    SETTINGS.debug, SETTINGS.quiet, SETTINGS.env_file = debug, quiet, env_file
    return app(tokens, exit_on_error=False, print_error=True)


def launch(tokens: Sequence[str]) -> int:
    """Parses the command line and calls its command; the exit code."""
    if os.environ.get("TERM") == "dumb":
        os.environ["NO_COLOR"] = "1"
    rest = list(tokens)
    SETTINGS.flags = {}
    if any(token.startswith(_OF_SETTINGS) for token in rest):
        from compozy_prefect.cli.config_flags import take

        SETTINGS.flags, rest = take(rest)
    try:
        code = app.meta(rest, exit_on_error=False, print_error=True)
    except CycloptsError:
        return USAGE  # already said on stderr
    return code if isinstance(code, int) else 0
