"""What importing the runtime costs: neither litellm nor a socket."""

from __future__ import annotations

import subprocess
import sys
import textwrap

MODULES = (
    "agents mocks redaction schemas tools llm.capabilities llm.client llm.engine llm.faults "
    "llm.keys llm.offers llm.offline llm.parameters llm.patterns llm.providers llm.replies "
    "llm.samples llm.structured llm.wire"
)


def test_importing_the_runtime_imports_no_litellm_and_opens_no_socket():
    code = textwrap.dedent(
        f"""
        import importlib, sys
        def refuse(event, args):
            if event.startswith("socket.") and event != "socket.gethostname":
                raise SystemExit(f"{{event}} {{args}}")
        sys.addaudithook(refuse)
        for name in {MODULES!r}.split():
            importlib.import_module("compozy_prefect.runtime." + name)
        heavy = "litellm openai prefect mcp fastapi redis sqlalchemy jsonschema"
        print([name for name in heavy.split() if name in sys.modules])
        """
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.stdout.strip() == "[]"
