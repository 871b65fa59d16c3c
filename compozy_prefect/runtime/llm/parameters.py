"""Sampling parameters of a model (language.md §5) → what its provider takes, and what is left out.

litellm cannot be asked to leave out what a model does not take: with `drop_params` it says nothing
of what it drops, sends a refused request again without some fields, and hands on to the provider
whatever it has not heard of. So each parameter is tried on litellm's translation alone, without a
network: one that it refuses, or that changes nothing of what is sent, is left out and named.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from compozy_prefect.compiler.plan import Json, ModelPlan
from compozy_prefect.runtime.llm.capabilities import PREFIXES

# Parameter of the language → of litellm. A list and not what the YAML says, since a parameter must
# not lead the call elsewhere. `max_length` is the answer's, as `max_tokens` is, which goes first.
_NAMES: Mapping[str, str] = {
    **{name: name for name in ("temperature", "max_tokens", "top_p", "seed", "stop", "user")},
    **{name: name for name in ("frequency_penalty", "presence_penalty", "logit_bias")},
    **{name: name for name in ("reasoning_effort", "max_completion_tokens")},
    "stop_words": "stop",
    "max_length": "max_tokens",
}
# Not OpenAI's: which provider understands them, and by what name.
_OWN: Mapping[str, Mapping[str, str]] = {
    "top_k": dict.fromkeys(("anthropic", "google", "ollama", "openrouter", "custom"), "top_k"),
    "repetition_penalty": {
        "openrouter": "repetition_penalty",
        "custom": "repetition_penalty",
        "ollama": "repeat_penalty",
    },
    "min_length": {"custom": "min_tokens"},  # vLLM's name
}
# What litellm makes something else of. Ollama's `repeat_penalty` is a factor and 1 its middle.
_MISTAKEN = frozenset({("ollama", "frequency_penalty")})
# One answer is read and each is paid for, so that one is all that is asked for.
_COUNTS = frozenset({"n", "candidate_count"})


def parameters(litellm: Any, model: ModelPlan) -> tuple[dict[str, Json], list[str]]:
    """What to send, in litellm's names, and the parameters that the model does not take."""
    sent: dict[str, Json] = {}
    left: list[str] = []
    for name in sorted(model.params, key=lambda name: (name == "max_length", name)):
        value = model.params[name]
        if value is None or (name in _COUNTS and value in (0, 1)):
            continue
        theirs = _OWN.get(name, {}).get(model.provider)
        if theirs is not None:
            sent[theirs] = value
        elif name not in _NAMES or (model.provider, name) in _MISTAKEN:
            left.append(name)
        elif _NAMES[name] not in sent:
            text = json.dumps(value, sort_keys=True)
            if _taken(litellm, PREFIXES[model.provider], model.model, _NAMES[name], text):
                sent[_NAMES[name]] = value
            else:
                left.append(name)
    return sent, left


@lru_cache(maxsize=2048)
def _taken(litellm: Any, prefix: str, model: str, name: str, value: str) -> bool:
    """Whether the parameter makes a difference to what litellm would send."""
    translate = litellm.utils.get_optional_params
    given = json.loads(value)
    try:
        without = translate(model=model, custom_llm_provider=prefix)
        return bool(translate(model=model, custom_llm_provider=prefix, **{name: given}) != without)
    except Exception:
        return False
