"""Values of a plan → the few words a picture or a sentence has room for."""

from __future__ import annotations

from compozy_prefect.compiler.plan import AgentPlan, ModelPlan

_UNITS = (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1))


def short(text: str, limit: int) -> str:
    """One line of at most `limit` characters, without any that could steer a terminal."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def bare(template: str) -> str:
    """What stands between the braces, when a template is nothing else."""
    inside = template.strip().removeprefix("{{").removesuffix("}}")
    alone = template.strip() == "{{" + inside + "}}" and "{{" not in inside
    return inside.strip("-").strip() if alone else template


def duration(seconds: float) -> str:
    """Seconds as they are written in YAML: `1h30m`, `250ms`."""
    whole, rest = divmod(round(seconds * 1000), 1000)
    if rest:
        return f"{whole * 1000 + rest}ms" if not whole else f"{seconds:.3f}".rstrip("0") + "s"
    out = ""
    for unit, size in _UNITS:
        count, whole = divmod(whole, size)
        out += f"{count}{unit}" if count else ""
    return out or "0s"


def model_name(model: ModelPlan) -> str:
    return f"{model.provider}:{model.model}"


def is_prompt_only(agent: AgentPlan) -> bool:
    """Whether the agent was made for a task that has only a prompt (language.md §3.2)."""
    return not agent.instructions
