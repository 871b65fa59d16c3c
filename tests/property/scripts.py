"""Tools with code that nobody would write, and code that somebody would, cut and put together."""

from __future__ import annotations

import json
from random import Random
from typing import Any

_SCRIPTS = (
    """async function run({ name, tags = [], ...rest }, config) {
  // a comment with `quotes' and {brackets
  const { Client } = await import('pg');
  const kept = tags.filter((tag) => /[/}]{2}/.test(tag) && tag !== "it's");
  switch (name) { case 'a': case 'b': { break; } default: throw new Error(`no ${name}`); }
  return { greeting: `Hello ${rest?.title ?? `${name}`}`, kept, n: kept.length / 2 };
}
""",
    "({ é, ...b }) => ({ sum: é + b.map(x => x ** 2).reduce((a, c) => a + c, 0) })",
    """import type { Note } from "./note";
export type Input = Map<string, Array<number>>;
export enum Kind { One, Two }
export async function save({ text }: Note, config?: unknown): Promise<{ text: string }> {
  return { text: (text as string)!.trim() } satisfies object;
}
export const list = <T,>(items: T[]) => items, { size: count, ...more } = lib;
export { list as all, type Note as Other } from "./lib";
export * as ns from "./ns";
export default { "a": save, 'b/c.d'() { return 1 }, [`c`]: 1, list, ...more };
""",
    "const help = x => { return [x] }\n[1].map(help)\nexport { help as default }",
    "/* two */ function one() {} function two() {} class A { #x = 1; static async *[k]() {} }",
)
_TOKENS = """
    ( ) [ ] { } < > , ; : ? . => = + - * / % ! & | ^ ` ${ ' " \\ @ # ... ?. ?? /* */ //
    <a> /a/g 0n `${ async await function class export default import from as type enum const let
"""
_CODE = (*_TOKENS.split(), "\n", " ", "é", "😀", "\u2028", "\x00", "\ud800", "{{ .x }}", "b<a>\n")


def _script(dice: Random) -> str:
    if not dice.randrange(16):
        return dice.choice(("./tools.ts", "tools.ts", "../x.js", "a\x00.js", ".", *_CODE))
    text = dice.choice(_SCRIPTS)
    for _ in range(dice.randrange(5)):
        start = dice.randrange(len(text) + 1)
        end = min(len(text), start + dice.choice((0, 1, 5, 40, 400)))
        new = dice.choice((dice.choice(_CODE), text[start:end] * 2, "", dice.choice(_CODE) * 99))
        text = text[:start] + new + text[end:]
    return text * dice.choice((1, 1, 1, 1, 30))


def scripts(dice: Random) -> dict[str, bytes]:
    """Tools with code, in each way that YAML writes a text, and a module with others."""
    tools = [{"id": dice.choice(("a", "save", "list"))} for _ in range(2)]
    plain: list[dict[str, Any]] = [
        {"id": f"js{n}", "type": "javascript", "execute": _script(dice)}
        for n in range(dice.randrange(1, 4))
    ]
    project = {
        "name": "fuzz",
        "runtime": {"entrypoint": dice.choice(("tools.ts", "./tools.ts", "tools.ts/..", "\0.ts"))},
        "tools": tools + plain,
    }
    text = json.dumps(project, ensure_ascii=False)[:-1] + ', "tasks": [{"id": "x", "tool": "js0"}]}'
    if dice.randrange(2):  # as a block, which ends where the next key begins
        head = dice.choice(("|", "|-", "|+", ">", ">-", "|2-"))
        lines = _script(dice).replace("\n", "\n      ")
        block = "name: fuzz\ntasks: [{id: x, tool: js}]\ntools:\n  - id: js\n    type: javascript\n"
        text = f"{block}    execute: {head}\n      {lines}\n  - id: save\n"
        text += 'runtime: {entrypoint: "tools.ts"}\n'
    files = {"compozy.yaml": text, "tools.ts": _script(dice)}
    return {name: one.encode("utf-8", "surrogatepass") for name, one in files.items()}
