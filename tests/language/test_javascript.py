"""The reader of code: what nobody would write takes no longer than it may, and is never a crash.

What it says of mistakes is in tests/cases/checks/scripts.yaml.
"""

from __future__ import annotations

import random
from time import thread_time

import pytest

from compozy_prefect.language import javascript
from compozy_prefect.language.exports import exports, functions
from compozy_prefect.language.javascript import LONGEST, Fault, Reader, Unread

# Found by repeating tokens at random: a parser that recovers from each mistake, or keeps every
# reading of a text, takes seconds to minutes and up to gigabytes for 60 KB of one of these.
PATHOLOGICAL = (
    "- * ",
    "b<a>\n",
    "=>for=>b'",
    "typeofkeyof<do@\n",
    "# /* enum public\n",
    "async ; 1 <A< function ",
    "(a,",
    "a<",
    "{a:",
    "`${",
    "async(",
    "(",
    "[",
    "{",
    "}\n[",
    "\0",
    "\ud800",
    "é",
)


@pytest.mark.parametrize("size", [8_000, 24_000])
@pytest.mark.parametrize("unit", PATHOLOGICAL)
def test_no_code_takes_long(unit: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(javascript, "READ_SECONDS", 0.1)
    monkeypatch.setattr(javascript, "TOTAL_SECONDS", 0.4)
    text = unit * (size // len(unit.encode("utf-8", "surrogatepass")))
    begin = thread_time()
    said = _answer(text)
    # Of processor time, in which other programs take no part; the steps of a parser included.
    assert thread_time() - begin < 10
    assert said is None or isinstance(said, Fault) or str(said) == "reading it takes too long"
    if unit in ("- * ", "=>for=>b'", "typeofkeyof<do@\n"):  # clear from the beginning
        assert isinstance(said, Fault)
        assert said.start < 20


def _answer(text: str) -> Fault | Unread | None:
    """What is said of a text: None when it is read."""
    try:
        code = Reader().read(text)
    except Fault as fault:
        inside = 0 <= fault.start <= fault.end <= len(text)
        return fault if inside and (fault.opened or 0) <= len(text) else pytest.fail(str(fault))
    except Unread as reason:
        return reason
    functions(code)
    exports(code)
    return None


def test_deep_code_is_read() -> None:
    deep = 10_000
    code = Reader().read(f"(x) => {'(' * deep}x{')' * deep}")
    assert [name for name, _ in functions(code).all] == [""]
    assert exports(code) == set()
    nested = Reader().read("export const a = " + "[{ a: " * 3000 + "1" + " }]" * 3000)
    assert exports(nested) == {"a"}
    around = Reader().read(f"export default {'(' * deep}x => x{')' * deep}")
    assert len(functions(around).defaults) == 1


def test_too_long_code_is_not_read() -> None:
    assert Reader().read(f"//{'x' * (LONGEST - 2)}")
    with pytest.raises(Unread, match="longer than 32 KiB"):
        Reader().read(f"//{'é' * (LONGEST // 2)}")
    with pytest.raises(Unread):
        Reader().read("(" * 10_000_000)


def test_many_slow_codes_have_one_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(javascript, "TOTAL_SECONDS", 0.2)
    reader = Reader()
    said = []
    for number in range(20):
        with pytest.raises((Fault, Unread)) as raised:
            reader.read(f"x{number}\n" + "b<a>\n" * 4000)
        said.append(str(raised.value))
    assert said[-10:] == ["reading it takes too long"] * 10


def test_noise_is_answered() -> None:
    dice = random.Random(1)
    tokens = "(){}[]<>`'\"/*+-=a1,;:?. \n$\\@#é"
    for size in (1, 10, 100, 1000, 9000):
        for _ in range(20):
            text = "".join(dice.choice(tokens) for _ in range(size))
            _answer(text)


def test_what_was_read_is_known() -> None:
    reader = Reader()
    assert reader.read("(x) => x") is reader.read("(x) => x")
    for _ in range(2):
        with pytest.raises(Fault, match="`x` is not expected here"):
            reader.read("(x) => x x")


@pytest.mark.parametrize(
    "text",
    [
        "const f = () => {}\n[1, 2].forEach(f)",
        "const f = x => { return 1 }\n  [...a].map(f)",
        "const f = async () => {}\n\n/re/.test(x)",
        "using x = f();",
        "for await (const x of y) {}",
        "class A { #x = 1; static { this.y = 1 } has(o) { return #x in o } accessor = 1 }",
        "const r = /[\\p{L}--[a-z]]/v, n = 1_000_000n; a ??= b?.[0]?.c",
        "import data from './a.json' with { type: 'json' }",
        "const get = 1, set = 2, of = 3, async = 4, from = 5; async.x = async (async) => 1",
        "#!/usr/bin/env node\nouter: for (const a of b) { continue outer }",
        "const ключ = 1, 变量 = `a ${`b ${c} d`} e`",
    ],
)
def test_modern_code_is_read(text: str) -> None:
    assert Reader().read(text)


def test_a_mistake_before_characters_of_several_bytes_is_told() -> None:
    for shift in range(4):  # wherever a reader of pieces would cut one
        text = "/* two */ function one() {} fun" + " " * shift + "\N{GRINNING FACE}" * 1000
        with pytest.raises(Fault):
            Reader().read(text + "async *[k]() {} }" + text)
