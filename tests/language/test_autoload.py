"""Which files `autoload` finds, what they are taken for, and what is said about the bad ones."""

from __future__ import annotations

import fnmatch
import os
import random
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from language_cases import lines

from compozy_prefect.language import autoload
from compozy_prefect.language.discovery import Discovery, discover
from compozy_prefect.language.load import load

AGENT = "resource: agent\nid: {}\ninstructions: Read.\n"
FLOW = "id: {}\ntasks: [{{id: a, with: {{x: 1}}}}]\n"


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def project(root: Path, files: dict[str, str], *include: str, **fields: Any) -> Discovery:
    """A project that autoloads `include` with these other fields of the block."""
    block = {"enabled": True, "include": list(include), **fields}
    write(root, files | {"compozy.yaml": f"name: p\nautoload: {_flow(block)}\n"})
    return discover(root)


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {_flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(v) for v in value) + "]"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return {True: "true", False: "false", None: "null"}.get(value, str(value))


def names(found: Discovery) -> list[str]:
    """The documents that were loaded."""
    return sorted([c.document for c in found.components] + [w.name for w in found.workflows])


def said(found: Discovery) -> list[str]:
    return [re.sub(r"compozy\.yaml:\S+ ", "", line) for line in lines(found.diagnostics)]


# --- what is found --------------------------------------------------------------------------------


@pytest.mark.parametrize("block", ["", "null", "{}", "{enabled: false}", "{enabled: null}"])
def test_nothing_happens_unless_it_is_switched_on(tmp_path: Path, block: str) -> None:
    write(tmp_path, {"compozy.yaml": f"name: p\nautoload: {block}\n", "agents/a.yaml": "x: 1\n"})
    found = discover(tmp_path)
    assert not found.diagnostics
    assert (found.components, found.registry, found.workflows) == ((), {}, ())
    assert set(found.sources) == {"compozy.yaml"}


def test_a_switched_off_block_may_be_wrong(tmp_path: Path) -> None:
    assert not project(tmp_path, {}, "/etc/*", "..", enabled=False).diagnostics


def test_components_and_workflows(tmp_path: Path) -> None:
    found = project(
        tmp_path,
        {
            "agents/Reader.yaml": AGENT.format("Reader"),
            "flows/b.yaml": FLOW.format("b"),
            "flows/a.yml": "resource: Workflow\n" + FLOW.format("a"),
            "tools/search/tool.yaml": "resource: ' TOOL '\nid: ' search '\n",
            "tools/search/index.ts": "export {}\n",
            "tools/package.json": "{}\n",
            "README.md": "",
        },
        "**",
    )
    assert not found.diagnostics
    assert [w.name for w in found.workflows] == ["flows/a.yml", "flows/b.yaml"]
    assert all(w.is_workflow for w in found.workflows)
    assert [c[:3] for c in found.components] == [
        ("agent", "Reader", "agents/Reader.yaml"),
        ("tool", "search", "tools/search/tool.yaml"),
    ]
    assert found.components[0].path == tmp_path / "agents" / "Reader.yaml"
    assert found.registry == {
        ("agent", "reader"): found.components[0].root,
        ("tool", "search"): found.components[1].root,
    }
    assert found.components[1].root.data() == {"resource": "tool", "id": "search"}
    assert set(found.sources) == {"compozy.yaml", *names(found)}


def test_listed_workflows_come_first_and_once(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "compozy.yaml": "name: p\nworkflows: [z.yaml, broken.yaml]\n"
            "tasks: [{id: t}]\n"
            "autoload: {enabled: true, include: ['*.yaml', './a.yaml']}\n",
            "a.yaml": FLOW.format("a"),
            "broken.yaml": "tasks: [\n",
            "z.yaml": FLOW.format("z"),
        },
    )
    (tmp_path / "link.yaml").symlink_to("z.yaml")
    found = discover(tmp_path)
    assert [w.name for w in found.workflows] == ["compozy.yaml", "z.yaml", "a.yaml"]
    assert [d.code for d in found.diagnostics] == ["CZ101"]


def test_an_include_that_matches_nothing_is_fine(tmp_path: Path) -> None:
    found = project(tmp_path, {"agents/a.yaml": AGENT.format("a")}, "none/**/*.yaml", "agents")
    assert (found.diagnostics, names(found)) == ([], [])


FILES = (
    *("a.yaml", "b.yml", "x/a.yaml", "x/y/a.yaml", "x/y/b.yaml", "x/y/z/c.yaml", "w/a.yaml"),
    *("x/.h.yaml", ".d/a.yaml", "x/a1.yaml", "x/A.yaml", "x/[a].yaml", "x/ä.yaml", "x/.#a.yaml"),
    *("x/._a.yaml", ".git/a.yaml", "x/node_modules/a.yaml", "x/dir.yaml/a.yaml", "x/a.json"),
)


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("*.yaml", "a.yaml"),
        ("*", "a.yaml b.yml"),
        ("./x//./a.yaml", "x/a.yaml"),
        ("x/?.yaml", "x/A.yaml x/a.yaml x/ä.yaml"),
        ("x/[ab].yaml", "x/a.yaml"),
        ("x/[!a].yaml", "x/A.yaml x/ä.yaml"),
        ("x/[^a].yaml", "x/A.yaml x/ä.yaml"),
        ("x/[a-z][0-9].yaml", "x/a1.yaml"),
        ("x/[[]a].yaml", "x/[a].yaml"),
        ("x/**/a.yaml", "x/a.yaml x/dir.yaml/a.yaml x/y/a.yaml"),
        ("**/y/**/?.yaml", "x/y/a.yaml x/y/b.yaml x/y/z/c.yaml"),
        ("**/**/c.yaml", "x/y/z/c.yaml"),
        ("x/y/**", "x/y/a.yaml x/y/b.yaml x/y/z/c.yaml"),
        ("x/**.yaml", "x/.h.yaml x/A.yaml x/[a].yaml x/a.yaml x/a1.yaml x/ä.yaml"),
        ("?/a.yaml", "w/a.yaml x/a.yaml"),
        ("{w,x/y}/[ab].{yaml,yml}", "w/a.yaml x/y/a.yaml x/y/b.yaml"),
        ("{a,{b,c}}.y{a,}ml", "a.yaml b.yml"),
        (".d/*", ".d/a.yaml"),
        ("x/y/", ""),
        ("X/*", ""),
        ("x/.#a.yaml", ""),
    ],
)
def test_patterns(tmp_path: Path, pattern: str, meant: str) -> None:
    texts = {name: AGENT.format(f"n{i}") for i, name in enumerate(FILES)}
    found = project(tmp_path, texts, pattern)
    assert not found.diagnostics
    assert " ".join(names(found)) == meant


@pytest.mark.parametrize(
    ("exclude", "left"),
    [
        ([], "a.yaml b.yml w/a.yaml x/y/a.yaml x/y/z/c.yaml"),
        (["a.yaml"], "b.yml x/y/z/c.yaml"),  # by name, wherever it is
        (["w/a.yaml"], "a.yaml b.yml x/y/a.yaml x/y/z/c.yaml"),
        (["x/**"], "a.yaml b.yml w/a.yaml"),
        (["x/*"], "a.yaml b.yml w/a.yaml x/y/a.yaml x/y/z/c.yaml"),
        (["**/y/*", "*.yml"], "a.yaml w/a.yaml x/y/z/c.yaml"),
        (["**"], ""),
        (["x"], "a.yaml b.yml w/a.yaml x/y/a.yaml x/y/z/c.yaml"),
    ],
)
def test_exclude(tmp_path: Path, exclude: list[str], left: str) -> None:
    files = ("a.yaml", "b.yml", "w/a.yaml", "x/y/a.yaml", "x/y/z/c.yaml", "x/y/b.yaml~")
    texts = {name: AGENT.format(f"n{i}") for i, name in enumerate(files)}
    found = project(tmp_path, texts, "**/*", exclude=exclude)
    assert not found.diagnostics
    assert " ".join(names(found)) == left


NAMES = st.text("ab.*?[]!", min_size=1, max_size=4).filter(lambda n: n not in (".", "..", "*" * 2))


@given(
    pattern=st.lists(st.one_of(NAMES, st.just("**")), min_size=1, max_size=5),
    path=st.lists(st.text("ab.", min_size=1, max_size=3), min_size=1, max_size=5),
)
def test_the_automaton_agrees_with_the_definition(pattern: list[str], path: list[str]) -> None:
    def matches(steps: list[str], names: list[str]) -> bool:
        if not steps or not names:
            return not names and all(step == "**" for step in steps)
        if steps[0] == "**":
            return matches(steps[1:], names) or matches(steps, names[1:])
        return fnmatch.fnmatchcase(names[0], steps[0]) and matches(steps[1:], names[1:])

    globs = autoload._Globs([autoload._Pattern(None, "/".join(pattern))])
    states = globs.start
    for name in path:
        states = globs.enter(states, name)
    assert bool(globs.ended(states)) == matches(pattern, path)


PATTERNS = ("**/*.yaml", "a/*.yaml", "?/**", "a/x.yaml", "**/[xy].yml", "b/**/y.y*ml", "l/*")


@settings(max_examples=60, deadline=None)
@given(
    include=st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=5),
    exclude=st.lists(st.sampled_from(PATTERNS), max_size=2),
    strict=st.booleans(),
    seed=st.randoms(use_true_random=False),
)
def test_no_order_shows(
    include: list[str], exclude: list[str], strict: bool, seed: random.Random
) -> None:
    files = [
        (f"{d}/{n}", AGENT.format(n[0])) for d in ("a", "b", "a/b") for n in ("x.yaml", "y.yml")
    ]
    files += [("w.yaml", FLOW.format("w")), ("b/w.yaml", FLOW.format("W")), ("a/n.yaml", "x: 1\n")]
    outcomes = set()
    for shuffled in (False, True):
        if shuffled:
            seed.shuffle(files)
            include = seed.sample(include * 2, 2 * len(include))
            seed.shuffle(exclude)
        with tempfile.TemporaryDirectory() as directory:
            root = Path(directory)
            (root / "a").mkdir()
            (root / "l").symlink_to("b")
            found = project(root, dict(files), *include, exclude=exclude, strict=strict)
            outcomes.add(
                (
                    tuple(c[:3] for c in found.components),
                    tuple(w.name for w in found.workflows),
                    tuple(found.registry),
                    tuple(found.sources),
                    tuple(said(found)),
                )
            )
    assert len(outcomes) == 1


# --- what it is taken for -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "text", "kind", "id_"),
    [
        ("agents/a.yaml", "id: x\n", "agent", "x"),
        ("deep/agents/v1/a.yaml", "name: x\n", "agent", "x"),
        ("agents/tools/a.yaml", "name: x\nid: y\n", "tool", "y"),
        ("memory/a.yaml", "id: x\n", "memory", "x"),
        ("memories/a.yaml", "id: x\nresource: null\n", "memory", "x"),
        ("mcps/a.yaml", "id:\nname: x\n", "mcp", "x"),
        ("tasks/a.yaml", "id: x\ntasks: []\n", "task", "x"),
        ("schemas/a.yaml", "id: x\ntype: object\n", "schema", "x"),
        ("models/a.yaml", "id: x\n", "model", "x"),
        ("agents/a.yaml", "resource: tool\nname: x\n", "tool", "x"),
        ("else/a.yaml", "resource: vectordb\nid: x\n", "vectordb", "x"),
    ],
)
def test_inference(tmp_path: Path, path: str, text: str, kind: str, id_: str) -> None:
    found = project(tmp_path, {path: text}, "**/*.yaml")
    assert not found.diagnostics
    (component,) = found.components
    assert (component.kind, component.id) == (kind, id_)
    root = component.root
    assert root.data()["resource"] == kind
    assert root.data()["id"] == id_
    assert list(root.entries) == list(root.keys)
    assert root.at("id").span.line in (1, 2)
    assert root.key_span("resource").file == path


def test_inferred_entries_stand_at_the_first_key(tmp_path: Path) -> None:
    found = project(tmp_path, {"agents/a.yaml": "# a\ninstructions: x\nid: x\n"}, "agents/*")
    root = found.components[0].root
    assert root.at("resource").span[1:] == (2, 1, 2, 13)
    assert root.key_span("resource")[1:] == (2, 1, 2, 13)


def test_a_complete_file_is_not_copied(tmp_path: Path) -> None:
    found = project(tmp_path, {"a.yaml": AGENT.format("a")}, "*")
    root = found.components[0].root
    assert root.source.text[root.start :].startswith("resource")
    assert root.get("id") is not None
    assert list(root.entries) == ["resource", "id", "instructions"]


@pytest.mark.parametrize("path", ["workflows/a.yaml", "else/a.yaml"])
def test_a_workflow_by_its_name(tmp_path: Path, path: str) -> None:
    found = project(tmp_path, {path: "name: x\ntasks: []\n"}, "**/*.yaml")
    assert not found.diagnostics
    assert found.workflows[0].root.data()["id"] == "x"


# --- what is wrong with files ---------------------------------------------------------------------

BAD = {
    "bad/1.yaml": "id: x\n",
    "bad/2.yaml": "resource: 3\nid: x\n",
    "bad/3.yaml": "resource: agnt\nid: x\n",
    "bad/4.yaml": "resource: agent\nname: x\n",
    "bad/5.yaml": "resource: agent\nid: 3\n",
    "bad/6.yaml": "resource: agent\nid: ' '\n",
    "bad/7.yaml": "a: [\n",
    "bad/8.yaml": "",
    "bad/9.yaml": "- a\n",
    "bad/a.yaml": "{}\n",
    "bad/b.yaml": "resource: agent\nid: x\nid: y\n",
    "bad/c.yaml": "resource: [agent]\nid: {a: 1}\n",
    "bad/d.yaml": AGENT.format("good"),
    "bad/e.yaml": AGENT.format("GOOD"),
}
TYPES = (
    "agent, embedder, knowledge_base, mcp, memory, model, project, schema, task, tool, vectordb, "
    "workflow"
)
SAID = [
    "CZ112 bad/1.yaml:1:1-1:3 an autoloaded file says what it is, and this one has no `resource` "
    "(MISSING_RESOURCE_FIELD) | "
    "write for example `resource: agent`, or move the file below agents/",
    "CZ112 bad/2.yaml:1:11-1:12 `resource` must be text, not a number (INVALID_RESOURCE_FIELD) | "
    f"it is one of {TYPES}",
    'CZ112 bad/3.yaml:1:11-1:15 "agnt" is no type of resource (INVALID_RESOURCE_FIELD) | '
    'did you mean "agent"?',
    "CZ112 bad/4.yaml:1:1-1:9 an autoloaded agent needs an `id` (MISSING_ID_FIELD) | "
    "write for example `id: 4`",
    "CZ112 bad/5.yaml:2:5-2:6 `id` must be text, not a number (INVALID_ID_FIELD) | "
    'quote it: `id: "3"`',
    "CZ112 bad/6.yaml:2:5-2:8 `id` is empty (EMPTY_ID)",
]


def test_bad_files(tmp_path: Path) -> None:
    found = project(tmp_path, BAD, "bad/*")
    assert [c.id for c in found.components] == ["x", "good"]  # x has a fault, but is known
    seen = said(found)
    assert seen[:6] == SAID
    assert [line.partition("(")[2].partition(")")[0] for line in seen] == [
        *("MISSING_RESOURCE_FIELD", "INVALID_RESOURCE_FIELD", "INVALID_RESOURCE_FIELD"),
        *("MISSING_ID_FIELD", "INVALID_ID_FIELD", "EMPTY_ID"),
        *("PARSE_ERROR", "PARSE_ERROR", "PARSE_ERROR"),
        *("MISSING_RESOURCE_FIELD", "MISSING_ID_FIELD", "PARSE_ERROR"),
        *("INVALID_RESOURCE_FIELD", "INVALID_ID_FIELD", "DUPLICATE_CONFIG"),
    ]
    assert seen[-1] == (
        'CZ113 bad/e.yaml:2:5-2:9 bad/d.yaml and bad/e.yaml both are the agent "GOOD" '
        "(DUPLICATE_CONFIG) | rename or exclude one of them; capitals do not tell ids apart"
    )
    assert set(BAD) < set(found.sources)


def test_bad_files_are_skipped_where_it_is_not_strict(tmp_path: Path) -> None:
    strict = project(tmp_path, BAD, "bad/*")
    found = project(tmp_path, BAD, "bad/*", strict=False)
    assert {d.severity for d in found.diagnostics} == {"warning"}
    assert [d.message for d in found.diagnostics] == [d.message for d in strict.diagnostics]
    assert [c.document for c in found.components] == ["bad/d.yaml"]


@pytest.mark.parametrize("strict", [True, False])
def test_a_workflow_with_the_id_of_a_listed_one(tmp_path: Path, strict: bool) -> None:
    write(
        tmp_path,
        {
            "compozy.yaml": "name: p\nworkflows: [z.yaml]\nautoload:\n  enabled: true\n"
            f"  strict: {'true' if strict else 'false'}\n  include: ['flows/*']\n",
            "z.yaml": "name: Z\ntasks: []\n",
            "flows/a.yaml": FLOW.format("z"),
        },
    )
    found = discover(tmp_path)
    assert [w.name for w in found.workflows] == ["z.yaml"]
    assert [(d.code, d.severity) for d in found.diagnostics] == [
        ("CZ113", "error" if strict else "warning")
    ]
    assert 'z.yaml and flows/a.yaml both are the workflow "z"' in found.diagnostics[0].message


def test_links(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "p"
    write(outside, {"a.yaml": AGENT.format("out"), "sub/b.yaml": AGENT.format("out2")})
    write(root, {"agents/a.yaml": AGENT.format("a"), "other/c.yaml": AGENT.format("c")})
    (root / "agents" / "out.yaml").symlink_to(outside / "a.yaml")
    (root / "agents" / "outside").symlink_to(outside)
    (root / "agents" / "dead.yaml").symlink_to("nothing.yaml")
    (root / "agents" / ".#dead.yaml").symlink_to("nobody@host:1")
    (root / "agents" / "loop.yaml").symlink_to("loop.yaml")
    (root / "agents" / "again.yaml").symlink_to("a.yaml")
    (root / "agents" / "other").symlink_to("../other")
    (root / "agents" / "up").symlink_to(".")
    (root / "unmatched").symlink_to(outside)
    os.mkfifo(root / "agents" / "pipe.yaml")
    found = project(root, {}, "agents/**/*.yaml")
    assert names(found) == ["agents/a.yaml", "other/c.yaml"]
    assert not any("out2" in text.text for text in found.sources.values())
    leads = "is a symbolic link that leads outside the project directory (PATH_TRAVERSAL_ATTEMPT)"
    hint = "a project is one directory: copy what it needs into it, or `exclude` the link"
    assert sorted(said(found)) == [
        'CZ108 "agents/loop.yaml" cannot be read: too many levels of symbolic links',
        'CZ108 "agents/nothing.yaml" does not exist, and a symbolic link leads to it',
        f'CZ108 "agents/out.yaml" {leads} | {hint}',
        f'CZ108 "agents/outside" {leads} | {hint}',
        'CZ108 "agents/pipe.yaml" cannot be read: it is not a regular file',
    ]
    assert {d.span and d.span[:3] for d in found.diagnostics} == {("compozy.yaml", 2, 37)}


def test_links_may_be_excluded(tmp_path: Path) -> None:
    root = tmp_path / "p"
    write(root, {"agents/a.yaml": AGENT.format("a")})
    write(tmp_path / "outside", {"a.yaml": AGENT.format("out")})
    (root / "agents" / "outside").symlink_to(tmp_path / "outside")
    (root / "agents" / "out.yaml").symlink_to(tmp_path / "outside" / "a.yaml")
    found = project(root, {}, "agents/**", exclude=["agents/outside", "out.yaml"])
    assert (found.diagnostics, names(found)) == ([], ["agents/a.yaml"])


def test_a_project_below_a_link(tmp_path: Path) -> None:
    project(tmp_path / "real", {"agents/a.yaml": AGENT.format("a")}, "agents/*")
    (tmp_path / "link").symlink_to("real")
    found = discover(tmp_path / "link")
    assert (found.diagnostics, names(found)) == ([], ["agents/a.yaml"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read(tmp_path: Path) -> None:
    write(tmp_path, {"agents/a.yaml": AGENT.format("a"), "agents/b/b.yaml": AGENT.format("b")})
    (tmp_path / "agents" / "a.yaml").chmod(0)
    (tmp_path / "agents" / "b").chmod(0)
    found = project(tmp_path, {}, "agents/**")
    (tmp_path / "agents" / "b").chmod(0o700)
    assert sorted(said(found)) == [
        'CZ108 "agents/a.yaml" cannot be read: permission denied',
        'CZ108 the directory "agents/b" cannot be read: permission denied',
    ]


def test_odd_names_and_bytes(tmp_path: Path) -> None:
    write(tmp_path, {"agents/dir.yaml/a.yaml": AGENT.format("a")})
    odd = os.fsencode(tmp_path / "agents") + b"/\xff\n.yaml"
    Path(os.fsdecode(odd)).write_text("resource: agent\n")
    (tmp_path / "agents" / ("n" * 250 + ".yaml")).write_bytes(b"id: \xff\n")
    found = project(tmp_path, {}, "agents/**")
    assert [c.id for c in found.components] == ["a"]
    assert {d.code for d in found.diagnostics} == {"CZ104", "CZ112"}
    assert all(str(d).encode() for d in found.diagnostics)


def test_too_much_to_look_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoload, "MAX_ENTRIES", 10)
    write(tmp_path, {f"data/{i}.yaml": AGENT.format(f"n{i}") for i in range(20)})
    write(tmp_path, {"agents/a.yaml": AGENT.format("a"), "node_modules/a.yaml": "x: 1\n"})
    found = project(tmp_path, {}, "**/*.yaml", strict=False)
    assert [(d.code, d.severity) for d in found.diagnostics] == [("CZ111", "error")]
    assert "more than 10 files and directories" in found.diagnostics[0].message
    assert not found.components
    assert names(project(tmp_path, {}, "agents/**")) == ["agents/a.yaml"]
    assert names(project(tmp_path, {}, "**/*.yaml", exclude=["data/**"])) == ["agents/a.yaml"]


def test_links_in_circles_end(tmp_path: Path) -> None:
    for i in range(8):
        (tmp_path / "d" / str(i)).mkdir(parents=True)
        for j in range(8):
            (tmp_path / "d" / str(i) / f"to{j}").symlink_to(f"../{j}")
    write(tmp_path, {"d/3/a.yaml": AGENT.format("a")})
    found = project(tmp_path, {}, "d/**/to1/**/*.yaml")
    assert (found.diagnostics, names(found)) == ([], ["d/3/a.yaml"])


# --- what is wrong with the block -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("{enabled: true}", '2:12-2:19 `autoload` is switched on and needs patterns in `include` | '
         'write for example `include: ["agents/**/*.yaml"]`'),
        ("{enabled: true, include: []}", "2:27-2:34 `autoload` is switched on and needs"),
        ("{enabled: true, include: null}", "2:27-2:34 `autoload` is switched on and needs"),
        ("{enabled: true, includes: [a]}", "2:27-2:35 `autoload` is switched on and needs patterns "
         "in `include` | is `includes` meant to be `include`?"),
        ("{enabled: true, include: ['']}", "2:37-2:39 the pattern is empty | patterns are"),
        ("{enabled: true, include: [/etc/*]}", '2:37-2:43 "/etc/*" is an absolute path'),
        ("{enabled: true, include: ['{a,/b}']}", '2:37-2:45 "{a,/b}" is an absolute path'),
        ("{enabled: true, include: ['C:/a']}", '2:37-2:43 "C:/a" is an absolute path'),
        ("{enabled: true, include: [a/../b]}", '2:37-2:43 "a/../b" leads upwards by `..` '
         "(PATH_TRAVERSAL_ATTEMPT)"),
        ("{enabled: true, include: ['{.,a}{.,b}/c']}", "leads upwards by `..`"),
        ("{enabled: true, include: ['a\\b']}", '"a\\b" has a backslash'),
        ('{enabled: true, include: ["a\\0b"]}', "a pattern cannot hold a NUL character"),
        ("{enabled: true, include: [a], exclude: [../b]}", "leads upwards by `..`"),
        ("{enabled: true, include: ['" + "{a,b}" * 30 + "']}", "has more than 200 patterns"),
        ("{enabled: true, include: ['" + "a" * 1001 + "']}", "longer than 1,000 characters"),
        ("{$ref: local::x}", "`autoload` is read before any reference is resolved | write the"),
        ("{enabled: {$ref: local::x}}", "is read before any reference is resolved"),
        ("{enabled: true, include: {$ref: local::x}}", "is read before any reference is resolved"),
        ("{enabled: true, include: [{$ref: local::x}]}", "is read before any reference"),
    ],
)  # fmt: skip
def test_a_bad_block(tmp_path: Path, block: str, message: str) -> None:
    write(tmp_path, {"compozy.yaml": f"name: p\nautoload: {block}\n", "a": "", "agents/a.yaml": ""})
    found = discover(tmp_path)
    assert [(d.code, d.severity) for d in found.diagnostics] == [("CZ111", "error")]
    assert message in lines(found.diagnostics)[0]
    assert not found.components


def test_a_bad_pattern_does_not_hide_the_others(tmp_path: Path) -> None:
    found = project(tmp_path, {"a.yaml": AGENT.format("a")}, "../b", "*.yaml")
    assert names(found) == ["a.yaml"]
    assert [d.code for d in found.diagnostics] == ["CZ111"]


@pytest.mark.parametrize(
    "block",
    [
        *("3", "[]", "text", "{enabled: 3}", "{enabled: [true]}", "{enabled: 'true'}"),
        *("{enabled: true, include: {}}", "{enabled: true, include: 3}"),
        *("{enabled: true, include: '**'}", "{enabled: true, include: [{}, [], null, true]}"),
    ],
)
def test_other_types_are_left_to_the_check_of_fields(tmp_path: Path, block: str) -> None:
    write(tmp_path, {"compozy.yaml": f"name: p\nautoload: {block}\n", "a.yaml": AGENT.format("a")})
    found = discover(tmp_path)
    assert (found.diagnostics, found.components) == ([], ())


ODD = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-2, 2),
        st.text("ab*?[]{},!^./\\$~ -:'", max_size=12),
        st.sampled_from(
            ("**/*", "agents/**", "**/[", "{a,{b", "[z-a]", "a" * 300, "..", "/", "~/x")
        ),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(("include", "$ref", "x")), inner, max_size=2),
    ),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(
    block=st.dictionaries(
        st.sampled_from(("enabled", "strict", "include", "exclude", "watch_enabled", "$use")), ODD
    ),
    text=st.one_of(st.binary(max_size=30), st.sampled_from((b"id: x", b"{}", b"resource: {a: b}"))),
)
def test_nothing_is_raised(block: dict[str, Any], text: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        write(root, {"agents/b/c.yaml": "name: c\n"})
        (root / "agents" / "a.yaml").write_bytes(text)
        (root / "agents" / "dead.yaml").symlink_to("\udcff")
        (root / "agents" / "x.yaml").mkdir()
        write(root, {"compozy.yaml": f"name: p\nautoload: {_flow({'enabled': True} | block)}\n"})
        found = discover(root)
        assert all(os.path.realpath(c.path).startswith(str(root)) for c in found.components)
        assert all(d.span is not None for d in found.diagnostics)


# --- through the next stages ----------------------------------------------------------------------


def test_resource_references(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "compozy.yaml": "name: p\n"
            "autoload: {enabled: true, include: ['agents/**', 'flows/*']}\n"
            "models: [{provider: mock, model: m}]\n",
            "agents/reader.yaml": "id: X\ninstructions: {$ref: local::texts.0}\ntexts: [Read.]\n"
            "config: {$ref: global::models.0}\n",
            "flows/main.yaml": """\
id: main
agents:
  - $ref: resource::agent::#(id=='x')
tasks:
  - id: a
    $use: agent(resource::AGENT::x)
    prompt: hi
  - id: b
    with:
      text: {$ref: "resource::agent::#(id=='x').instructions"}
""",
        },
    )
    loaded = load(tmp_path)
    (workflow,) = loaded.workflows
    assert not [str(d) for d in loaded.diagnostics if d.severity == "error"]
    assert workflow.file == "flows/main.yaml"
    agent = workflow.noun.agents[0]
    assert (agent.id, agent.instructions) == ("X", "Read.")
    assert workflow.noun.tasks[1].with_ == {"text": "Read."}


def test_an_unknown_resource_names_what_there_is(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "compozy.yaml": "name: p\nautoload: {enabled: true, include: ['agents/*']}\n"
            "tasks: [{id: a, with: {$ref: resource::agent::reder}}]\n",
            "agents/a.yaml": "id: reader\n",
        },
    )
    (fault,) = (d for d in load(tmp_path).diagnostics if d.code == "CZ201")
    assert fault.hint == 'did you mean "reader"?'
