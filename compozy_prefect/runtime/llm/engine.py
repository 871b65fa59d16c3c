"""litellm, imported once, when the first model is asked, and kept quiet.

The import takes three seconds of CPU and 170 MB. Left alone it would fetch a price list over the
network, load `.env` from the working directory, and log prompts and keys to stderr at its debug
level (dependencies.md §3).
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import sys
import threading
import warnings
from typing import Any

_ENVIRONMENT = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_MODE": "PRODUCTION",
    # OpenAI's models as all others, and not through OpenAI's library: that has connections of its
    # own, and takes organization, project and headers from the environment.
    "EXPERIMENTAL_OPENAI_BASE_LLM_HTTP_HANDLER": "True",
}
_LOGGERS = ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy", "litellm")

_lock = threading.Lock()
_module: Any = None


async def litellm() -> Any:
    """The module. The first import happens in a thread, so that the loop goes on."""
    return _module if _module is not None else await asyncio.to_thread(_load)


def warm() -> None:
    """Start the import in the background, while the caller has something else to wait for.

    Returns at once and never fails; a call that comes too early waits for the same import. The
    thread does not keep the process alive.
    """
    if _module is None:
        threading.Thread(target=_load_quietly, name="compozy-litellm", daemon=True).start()


def _load() -> Any:
    global _module
    with _lock:
        if _module is None:
            os.environ.update(_ENVIRONMENT)
            os.environ.pop("LITELLM_LOG", None)  # would turn its debug log on
            module = importlib.import_module("litellm")
            _silence(module)
            # Loads what the first call would load, under the time-out of that call.
            module.token_counter(model="gpt-4o", text="x")
            _module = module
    return _module


def _load_quietly() -> None:
    # The call that needs the module imports it again, and raises where somebody sees it.
    try:
        _load()
    except Exception:
        logging.getLogger(__name__).debug("litellm could not be imported ahead", exc_info=True)


def _silence(module: Any) -> None:
    # Without it, counting tokens of some models asks huggingface.co, for 23 s when offline.
    module.disable_hf_tokenizer_download = True
    module.suppress_debug_info = True
    # A stream with so many equal pieces in a row would fail, as if the same words said in one did.
    module.REPEATED_STREAMING_CHUNK_LIMIT = sys.maxsize
    module.set_verbose = False
    # Said on stderr of streamed answers of OpenAI's responses, which are read nevertheless.
    warnings.filterwarnings("ignore", message=r"(?s)Pydantic serializer.*`ResponseAPIUsage`")
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = False
        logger.disabled = True
