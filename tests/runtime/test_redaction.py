"""redaction: what looks like a secret, and what is known to be one."""

from __future__ import annotations

import json

import pytest

from compozy_prefect.runtime.redaction import MARK, Redactor, redact

SECRET = "s3cr3tValue99xyz"


@pytest.mark.parametrize(
    "text",
    [
        "token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.s3cr3tValue99xyz",
        "id AKIAIOSFODNN7EXAMPLE",
        "push with ghp_s3cr3tValue99xyz0000",
        "slack xoxb-12345678-s3cr3tValue99xyz",
        "at postgres://app:s3cr3tValue99xyz@db:5432/x",
        "DATABASE_URL=s3cr3tValue99xyz",
        "Authorization: Bearer s3cr3tValue99xyz",
        "api_key=s3cr3tValue99xyz",
        '{"password": "s3cr3tValue99xyz"}',
        "OPENAI_API_KEY: s3cr3tValue99xyz",
        "client_secret = 's3cr3tValue99xyz'",
        "access_token=s3cr3tValue99xyz&x=1",
        "key: s3cr3tValue99xyz",
        "used sk-proj-s3cr3tValue99xyz",
        "used api_s3cr3tValue99xyz",
        "write to s3cr3tValue99xyz@example.com",
    ],
)
def test_what_looks_like_a_secret_goes(text):
    clean = redact(text)
    assert MARK in clean
    assert "s3cr3t" not in clean
    assert "AKIAIOSF" not in clean
    assert redact(clean) == clean


@pytest.mark.parametrize(
    "text",
    [
        "prompt_tokens: 12, max_tokens=100",
        "at `key`: expected string, got integer 3",
        "no secrets in here, and the key is small",
        "see https://example.com/path?a=1 at 12:30",
        "the monkey-like task-runner",
    ],
)
def test_what_does_not_stays(text):
    assert redact(text) == text


def test_the_limit_cuts_after_the_redaction():
    clean = redact("x" * 20 + f" password={SECRET}", limit=25)
    assert len(clean) == 25
    assert clean.endswith("…")
    assert "s3cr" not in clean
    assert redact("short", limit=25) == "short"


def test_known_secrets_go_from_text_and_json_in_every_spelling():
    secret = 'ab"c/d\\é f'
    redactor = Redactor([secret, "tiny", None, ""])
    written = [secret, json.dumps({"a": secret}), "q=ab%22c%2Fd%5C%C3%A9%20f", repr(secret)]
    for text in written:
        assert MARK in redactor.text(text)
    out = redactor.json({secret: [secret, 1, None, {"x": (f"<{secret}>",)}], "tiny": "tiny"})
    assert out == {MARK: [MARK, 1, None, {"x": [f"<{MARK}>"]}], "tiny": "tiny"}


def test_the_longer_of_two_secrets_goes_as_a_whole():
    assert Redactor(["secret", "secret-and-more"]).text("secret-and-more") == MARK


def test_a_redactor_does_not_show_what_it_knows():
    assert SECRET not in repr(Redactor([SECRET]))
    assert Redactor([]).text(SECRET) == SECRET


def test_redaction_takes_linear_time():
    for text in ("a" * 200_000, "a@" * 100_000, "key=" * 50_000, "eyJ." * 50_000, "://a:" * 40_000):
        redact(text)
