"""What built-in tools, programs and Python functions may do (language.md §1.2, §6.5)."""

from typing import Literal

from compozy_prefect.language.models.base import Noun, Seconds, Size, field

_MIB = 2**20
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"]


class CommandArgument(Noun):
    """What one argument of an allowed program may be."""

    called = "an argument"

    name: str | None = field(None, "For messages.")
    index: int | None = field(None, "Its place, from 0; its place in the list if not given.", ge=0)
    pattern: str | None = field(None, "A regular expression, of RE2, that all of it fits.")
    enum: list[str] = field([], "The values it may have.")
    optional: bool = field(False, "Whether it may be missing.")


class AllowedCommand(Noun):
    """A program of the allow-list, and how it may be called."""

    called = "an allowed command"

    path: str = field(..., "A path, or a name that the system's `PATH` finds.", min_length=1)
    description: str | None = field(None, "What it is for.")
    timeout: Seconds | None = field(None, "Of one call, at most.", gt=0)
    max_args: int | None = field(None, "Arguments of one call, at most.", ge=0)
    arguments: list[CommandArgument] = field([], "What its arguments may be, in their order.")
    allow_additional_args: bool = field(False, "Whether further arguments may follow those.")


class ExecSettings(Noun):
    """Programs that tools of `type: cli` and `cp__exec` may start."""

    called = "`exec`"

    timeout: Seconds = field(30.0, "Of one call of `cp__exec`.", gt=0)
    max_stdout_bytes: Size = field(2 * _MIB, "Largest output.")
    max_stderr_bytes: Size = field(1024, "How much of the error output is kept, from its end.")
    allowlist: list[str | AllowedCommand] = field(
        [], "Programs beside `ls`, `cat` and the like.", example="[git, ./scripts/report.sh]"
    )


class FetchSettings(Noun):
    """`cp__fetch`."""

    called = "`fetch`"

    timeout: Seconds = field(5.0, "Of one call.", gt=0)
    max_body_bytes: Size = field(2 * _MIB, "Largest answer.")
    max_redirects: int = field(5, "Redirects that are followed.", ge=0)
    allowed_methods: list[Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"]] = field(
        _METHODS, "Methods of requests."
    )


class CallSettings(Noun):
    """A built-in tool that calls an agent, a task or a workflow."""

    called = "a built-in tool"

    enabled: bool = field(True, "Whether it may be used.")
    default_timeout: Seconds = field(60.0, "Of one call.", gt=0)
    max_concurrent: int = field(10, "Calls at a time.", ge=1)


class WorkflowCallSettings(CallSettings):
    """A built-in tool that calls workflows."""

    called = "a built-in tool"

    default_timeout: Seconds = field(300.0, "Of one call.", gt=0)


class NativeTools(Noun):
    """The built-in `cp__*` tools."""

    called = "`native_tools`"

    enabled: bool = field(True, "Whether they may be used.")
    root_dir: str = field(".", "The folder of those for files, from the project's.", min_length=1)
    additional_roots: list[str] = field([], "Further folders.")
    exec: ExecSettings | None = field(None, "Programs that may be started.")
    fetch: FetchSettings | None = field(None, "`cp__fetch`.")
    call_agent: CallSettings | None = field(None, "`cp__call_agent`.")
    call_agents: CallSettings | None = field(None, "`cp__call_agents`.")
    call_task: CallSettings | None = field(None, "`cp__call_task`.")
    call_tasks: CallSettings | None = field(None, "`cp__call_tasks`.")
    call_workflow: WorkflowCallSettings | None = field(None, "`cp__call_workflow`.")
    call_workflows: WorkflowCallSettings | None = field(None, "`cp__call_workflows`.")


class PythonTools(Noun):
    """Python functions that tools of `type: python` may be."""

    called = "`python`"

    allowlist: list[str] = field(
        [], "`module:function`, or `module:*`.", example='["tools.text:count", "tools.math:*"]'
    )
