"""Expressions of the syntax tree → closures over plain data.

A template is compiled once and evaluated many times; a path of keys costs one look-up a key. The
data are dicts, lists and scalars (or mappings that behave so); no attribute of a Python object is
ever read. Missing keys follow language.md §11.5, typing §11.4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import thread_time
from typing import Any

from compozy_prefect.errors import TemplateError
from compozy_prefect.expressions.arithmetic import INT64, OPERATORS, is_number
from compozy_prefect.expressions.effort import (
    LIMIT,
    LOOK_EVERY,
    MAKING,
    MAX_STEPS,
    steps_for,
    steps_of,
)
from compozy_prefect.expressions.functions import (
    FUNCTIONS,
    Environment,
    Function,
    FunctionError,
    arrange,
    compare,
    equal,
    truth,
)
from compozy_prefect.expressions.functions.contract import MAX_SECONDS, MAX_TEXT
from compozy_prefect.expressions.functions.values import sorted_keys
from compozy_prefect.expressions.members import describe, has, member, quoted
from compozy_prefect.expressions.nodes import (
    Arguments,
    Binary,
    Call,
    Choice,
    Each,
    Key,
    ListOf,
    Literal,
    Node,
    Not,
    Path,
    Subscript,
)
from compozy_prefect.language.names import nearest

UNKNOWN_VARIABLE = "CZ402"
ARITY = "CZ404"
MISSING = "CZ405"
FUNCTION = "CZ406"
UNDECLARED = "CZ408"

Value = Any
Context = Mapping[str, Value]


class Frame:
    """What one evaluation works on. `slots` holds the `$variables`.

    `due` are the steps at which the limits are looked at next, and `deadline` the second of the
    thread's time at which the evaluation ends; a short one never asks for it.

    An environment of None is made when a function asks for it: the clock is read at most once.
    """

    __slots__ = (
        *("deadline", "depth", "dot", "due", "environment", "root", "size", "slots", "steps"),
    )

    def __init__(self, root: Value, environment: Environment | None, slots: int) -> None:
        self.root = root
        self.dot: Value = root
        self.environment = environment
        self.slots: list[Value] = [None] * slots
        self.steps = self.size = self.depth = 0
        self.due, self.deadline = LOOK_EVERY, 0.0


Expression = Callable[[Frame], Value]
# What a look-up raises that finds nothing.
ABSENT = (KeyError, TypeError, IndexError)


class ExpressionCompiler:
    """Compiles the expressions of one template. `slots` is known once that is done."""

    def __init__(self, template: str) -> None:
        self._template = template
        self._scopes: list[dict[str, int]] = [{}]
        # Whether the dot, and `$`, are the context, so that their first segment is a variable.
        self._at_root = True
        self._in_define = False
        self.slots = 0

    def fault(self, node: Node, code: str, message: str, hint: str | None = None) -> TemplateError:
        return TemplateError(
            message, code=code, template=self._template, start=node.start, end=node.end, hint=hint
        )

    def _declare(self, name: str) -> int:
        slot = self.slots
        self.slots += 1
        self._scopes[-1][name] = slot
        return slot

    def _slot(self, name: str, node: Node) -> int:
        for scope in reversed(self._scopes):
            if name in scope:
                return scope[name]
        raise self.fault(
            node,
            UNDECLARED,
            f"the variable `${name}` is not declared here",
            f"declare it with `{{{{ ${name} := … }}}}` before, in the same block",
        )

    def step(self, frame: Frame, node: Node, steps: int = 1) -> None:
        frame.steps += steps
        if frame.steps > frame.due:
            self.look(frame, node)

    def look(self, frame: Frame, node: Node) -> None:
        """Looks at the limits; raises TemplateError (CZ407) that says which one is reached."""
        if frame.steps > MAX_STEPS:
            raise self.fault(node, LIMIT, f"the template takes more than {MAX_STEPS:,} steps")
        now = thread_time()
        if not frame.deadline:
            frame.deadline = now + MAX_SECONDS
        elif now > frame.deadline:
            raise self.fault(node, LIMIT, f"the template takes longer than {MAX_SECONDS:g} s")
        frame.due = min(frame.steps + LOOK_EVERY, MAX_STEPS)

    # Expressions

    def expression(self, node: Node, guarded: bool = False) -> Expression:
        if isinstance(node, Literal):
            value = node.value
            return lambda frame: value
        if isinstance(node, Path):
            return self._path(node, guarded)
        if isinstance(node, Call):
            return self._call(node, guarded)
        if isinstance(node, Binary):
            return self._binary(node, guarded)
        if isinstance(node, Not):
            operand = self.expression(node.operand, True)
            return lambda frame: not truth(operand(frame))
        if isinstance(node, Choice):
            return self._choice(node, guarded)
        if isinstance(node, Each):
            return self._each(node, guarded)
        assert isinstance(node, ListOf)
        items = [self.expression(item, guarded) for item in node.items]
        return lambda frame: [item(frame) for item in items]

    def _binary(self, node: Binary, guarded: bool) -> Expression:
        if node.op in ("&&", "||"):
            return self._lazy([node.left, node.right], stop_at=node.op == "||")
        left, right = self.expression(node.left, guarded), self.expression(node.right, guarded)
        if node.op == "==":
            return lambda frame: equal(left(frame), right(frame))
        if node.op == "!=":
            return lambda frame: not equal(left(frame), right(frame))
        if node.op in OPERATORS:
            return self._arithmetic(node, left, right)
        test: Callable[[int], bool] = {
            "<": lambda order: order < 0,
            "<=": lambda order: order <= 0,
            ">": lambda order: order > 0,
            ">=": lambda order: order >= 0,
        }[node.op]

        def run(frame: Frame) -> bool:
            try:
                order = compare(left(frame), right(frame))
            except FunctionError as fault:
                raise self.fault(node, FUNCTION, str(fault)) from None
            return order is not None and test(order)  # null is neither less nor greater

        return run

    def _arithmetic(self, node: Binary, left: Expression, right: Expression) -> Expression:
        operate = OPERATORS[node.op]

        def run(frame: Frame) -> Value:
            a, b = left(frame), right(frame)
            if is_number(a) and is_number(b):
                try:
                    value = operate(a, b)
                except (ZeroDivisionError, ValueError):
                    raise self.fault(node, FUNCTION, f"`{node.op}` by zero") from None
                except OverflowError:
                    value = None
                if value is None or (isinstance(value, int) and not -INT64 <= value < INT64):
                    raise self.fault(node, FUNCTION, "the result does not fit into 64 bits")
                return value
            if node.op == "+" and isinstance(a, str) and isinstance(b, str):
                if len(a) + len(b) > MAX_TEXT:
                    raise self.fault(node, LIMIT, f"the text grows beyond {MAX_TEXT:,} characters")
                self.step(frame, node, 1 + (len(a) + len(b)) // 1024)
                return a + b
            raise self.fault(
                node,
                FUNCTION,
                f"`{node.op}` does not fit {describe(a)} and {describe(b)}",
            )

        return run

    def _choice(self, node: Choice, guarded: bool) -> Expression:
        condition = self.expression(node.condition, True)
        yes, no = self.expression(node.yes, guarded), self.expression(node.no, guarded)
        return lambda frame: yes(frame) if truth(condition(frame)) else no(frame)

    def _each(self, node: Each, guarded: bool) -> Expression:
        """CEL's macros. Over a map they go by its keys; over null there is nothing to go by."""
        items_of = self.expression(node.items, True)
        self._scopes.append({})
        slot = self._declare(node.variable)
        test = self.expression(node.body, True)
        self._scopes.pop()

        def run(frame: Frame) -> Value:
            items = items_of(frame)
            if isinstance(items, dict):
                items = sorted_keys(items)
            if not isinstance(items, (list, tuple, type(None))):
                message = f"`{node.kind}` needs a list or a map and got {describe(items)}"
                raise self.fault(node.items, FUNCTION, message)
            results = []
            for item in items or ():
                self.step(frame, node)
                frame.slots[slot] = item
                results.append((item, test(frame)))
            if node.kind == "map":
                return [result for _, result in results]
            passed = [item for item, result in results if truth(result)]
            if node.kind == "filter":
                return passed
            return {
                "all": len(passed) == len(results),
                "exists": bool(passed),
                "exists_one": len(passed) == 1,
            }[node.kind]

        return run

    def _lazy(self, nodes: Sequence[Node], *, stop_at: bool) -> Expression:
        """The operand that decides: the first whose truth is `stop_at`, or the last."""
        operands = [self.expression(node, True) for node in nodes]

        def run(frame: Frame) -> Value:
            value: Value = None
            for operand in operands:
                value = operand(frame)
                if truth(value) is stop_at:
                    break
            return value

        return run

    def _call(self, node: Call, guarded: bool) -> Expression:
        if node.name in ("and", "or", "not"):
            return self._connective(node)
        function = FUNCTIONS[node.name]
        self._check_arity(node, function)
        inner = guarded or function.guard
        args = [self.expression(arg, inner) for arg in node.args]
        piped = self.expression(node.piped, inner) if node.piped is not None else None
        keywords = {key: self.expression(value, inner) for key, value in node.keywords}
        call, name = function.call, node.name
        plain = piped is None and not keywords and not function.environment
        makes = name in MAKING
        # Under a guard what is null stays null on its way to it: `.a.b | upper | default "x"`.
        lenient = guarded and not (function.guard or function.environment or name == "fail")

        def run(frame: Frame) -> Value:
            values = [arg(frame) for arg in args]
            into = piped(frame) if piped is not None else None
            if piped is not None:
                values = arrange(function, into, values, node.parenthesised)
            frame.steps += steps_of(name, values)
            if frame.steps > frame.due:
                self.look(frame, node)
            try:
                if makes:
                    made = call(*values)
                    self.step(frame, node, steps_for(name, made))
                    return made
                if plain:
                    return call(*values)
                if function.environment:
                    frame.environment = frame.environment or Environment()
                    values = [frame.environment, *values]
                return call(*values, **{key: value(frame) for key, value in keywords.items()})
            except FunctionError as fault:
                if lenient and (name == "index" or None in values[:1] or None in values[-1:]):
                    return None
                message = str(fault) or f"`{name}` failed without a message"
                raise self.fault(node, FUNCTION, message) from None
            except RecursionError:
                raise self.fault(node, LIMIT, f"`{name}`: nested too deep") from None

        return run

    def _connective(self, node: Call) -> Expression:
        """`and`, `or` and `not` in prefix form."""
        operands = [*node.args, *([node.piped] if node.piped is not None else [])]
        if not operands or node.keywords or (node.name == "not" and len(operands) != 1):
            wanted = "one argument" if node.name == "not" else "arguments without names"
            raise self.fault(node, ARITY, f"`{node.name}` takes {wanted}")
        if node.name == "not":
            return self.expression(Not(node.start, node.end, operands[0]))
        return self._lazy(operands, stop_at=node.name == "or")

    def _check_arity(self, node: Call, function: Function) -> None:
        given = len(node.args) + (node.piped is not None)
        if not function.takes(given):
            least, most = function.min_args, function.max_args
            wanted = (
                f"{least}"
                if least == most
                else f"at least {least}"
                if most is None
                else f"{least} to {most}"
            )
            plural = "" if wanted in ("1", "at least 1") else "s"
            message = f"`{node.name}` takes {wanted} argument{plural}, not {given}"
            raise self.fault(node, ARITY, message)
        for key, value in node.keywords:
            if key not in function.keywords:
                raise self.fault(value, ARITY, f"`{node.name}` has no argument named `{key}`")

    # Paths

    def _path(self, node: Path, guarded: bool) -> Expression:
        base = self._base(node)
        if not node.segments:
            return base
        root = node.base == "$" and not self._in_define
        at_root = root or (node.base == "." and self._at_root)
        for segment in node.segments:
            if isinstance(segment, Arguments):
                return self._method(node, segment, at_root)
        keys = [s.name for s in node.segments if isinstance(s, Key)]
        steps = [
            self.expression(s.index) if isinstance(s, Subscript) else None for s in node.segments
        ]
        slow = self._walker(node, base, steps, at_root, guarded)
        if len(keys) != len(node.segments) or any(isinstance(key, int) for key in keys):
            return slow

        if node.base == "." and len(keys) == 1:
            key = keys[0]

            def one(frame: Frame) -> Value:
                try:
                    return frame.dot[key]
                except ABSENT:
                    return slow(frame)

            return one

        from_dot = node.base == "."

        def many(frame: Frame) -> Value:
            value = frame.dot if from_dot else base(frame)
            try:
                for key in keys:
                    value = value[key]
            except ABSENT:
                return slow(frame)
            return value

        return many

    def _method(self, node: Path, arguments: Arguments, at_root: bool) -> Expression:
        """`.tools.<id>.<method>(…)` (§6.2), where the environment calls tools: in prompts.

        So it is with `.mcps.<id>.<method>(…)`.
        """
        root = str(_names(node, 0)) if at_root else ""
        what = {"tools": "a tool cannot be called", "mcps": "an MCP server cannot be asked"}
        fault = self.fault(
            arguments,
            FUNCTION,
            f"{what[root]} from this template"
            if root in what
            else "a method call needs a tool: `.tools.<id>.<method>(…)` in a prompt",
        )
        names = [segment.name for segment in node.segments[:3] if isinstance(segment, Key)]
        if root not in what or len(names) != 3 or node.segments[3:] != (arguments,):
            raise fault
        _, id, method = map(str, names)
        values = [self.expression(item) for item in arguments.items]

        def run(frame: Frame) -> Value:
            environment, call = frame.environment, None
            if environment is not None:
                call = environment.tool if root == "tools" else environment.server
            if call is None:
                raise fault
            self.step(frame, node)
            return call(id, method, [value(frame) for value in values])

        return run

    def _base(self, node: Path) -> Expression:
        if isinstance(node.base, Node):
            return self.expression(node.base)
        if node.base == ".":
            return lambda frame: frame.dot
        if node.base == "$":
            return lambda frame: frame.root
        slot = self._slot(node.base[1:], node)
        return lambda frame: frame.slots[slot]

    def _walker(
        self,
        node: Path,
        base: Expression,
        subscripts: list[Expression | None],
        at_root: bool,
        guarded: bool,
    ) -> Expression:
        """The look-up with every rule of §11.5; the fast path falls back to it."""
        last = len(node.segments) - 1

        def run(frame: Frame) -> Value:
            value, passed = base(frame), None
            for i, segment in enumerate(node.segments):
                subscript = subscripts[i]
                key: Value = (
                    subscript(frame) if subscript is not None else segment.name  # type: ignore[union-attr]
                )
                if at_root and i == 0 and isinstance(value, Mapping) and not has(value, key):
                    raise self._unknown_variable(segment, key, value)
                if at_root and i == 1 and _names(node, 0) == "tasks" and isinstance(value, Mapping):
                    if not has(value, key):
                        raise self._unknown_task(segment, key, value)
                    if value[key] is None:
                        return None  # known, and did not run (§11.3)
                found, inner, why = member(value, key)
                if found:
                    value, passed = inner, key
                    continue
                if guarded or (why is None and i == last):
                    return None
                if value is None and i > 0:
                    raise self._missing(node, i - 1, key, f"{quoted(passed)} is null")
                raise self._missing(node, i, key, why)
            return value

        return run

    def _missing(self, node: Path, i: int, key: Value, why: str | None) -> TemplateError:
        path = self._template[node.start : node.end]
        segment = node.segments[i]
        message = f"path {path}: {why or f'{quoted(key)} not found'}"
        return TemplateError(
            message,
            code=MISSING,
            template=self._template,
            start=segment.start,
            end=segment.end,
            hint=f"guard it: `{path} | default …`, or `{{{{ if {path} }}}}`",
        )

    def _unknown_variable(self, segment: Node, key: Value, value: Context) -> TemplateError:
        names = sorted(map(str, value))
        near = nearest(key, names) if isinstance(key, str) else None
        shown = f"`.{key[:60]}`" if isinstance(key, str) else describe(key)
        known = ", ".join(f".{name}" for name in names) or "none"
        hint = f"did you mean `.{near}`?" if near else f"available here: {known}"
        return self.fault(segment, UNKNOWN_VARIABLE, f"unknown variable {shown}", hint)

    def _unknown_task(self, segment: Node, key: Value, tasks: Context) -> TemplateError:
        names = sorted(map(str, tasks))
        near = nearest(key, names) if isinstance(key, str) else None
        shown = f"`{key[:60]}`" if isinstance(key, str) else describe(key)
        hint = f"did you mean `{near}`?" if near else f"tasks: {', '.join(names) or 'none'}"
        return self.fault(segment, MISSING, f"unknown task {shown}", hint)


def _names(node: Path, i: int) -> str | int | None:
    segment = node.segments[i]
    return segment.name if isinstance(segment, Key) else None
