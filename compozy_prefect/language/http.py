"""What the checks of `type: http` tools and their calls both know (language.md §6.2)."""

from __future__ import annotations

WITHOUT_BODY = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})
METHODS = WITHOUT_BODY | {"POST", "PUT", "PATCH"}

RESERVED = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers that the client writes itself."""

CONFIG = (
    "base_url",
    "headers",
    "auth",
    "timeout",
    "retry",
    "fail_on_error",
    "max_body_bytes",
    "max_redirects",
)
RETRY = ("maximum_attempts", "initial_interval", "backoff_coefficient", "maximum_interval")
AUTH = {"bearer": ("token",), "basic": ("username", "password")}
"""The keys of `config`, of its `retry`, and of its `auth` by type."""
