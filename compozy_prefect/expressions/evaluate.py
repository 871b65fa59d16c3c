"""Syntax tree → closures over plain data.

A template is compiled once and evaluated many times; a path of keys costs one look-up a key. The
data are dicts, lists and scalars (or mappings that behave so); no attribute of a Python object is
ever read. Missing keys follow language.md §11.5, typing §11.4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from compozy_prefect.errors import TemplateError
from compozy_prefect.expressions.functions import (
    FUNCTIONS,
    Environment,
    Function,
    FunctionError,
    arrange,
    compare,
    equal,
    to_text,
    truth,
)
from compozy_prefect.expressions.nodes import (
    Arguments,
    Assign,
    Binary,
    Break,
    Call,
    Continue,
    Define,
    If,
    Invoke,
    Key,
    ListOf,
    Literal,
    Node,
    Not,
    Output,
    Path,
    Range,
    Subscript,
    Text,
    With,
)

UNKNOWN_VARIABLE = "CZ402"
ARITY = "CZ404"
MISSING = "CZ405"
FUNCTION = "CZ406"
LIMIT = "CZ407"
UNDECLARED = "CZ408"

MAX_STEPS = 100_000
MAX_OUTPUT = 1 << 20  # characters
MAX_TEMPLATE_DEPTH = 40

Value = Any
Context = Mapping[str, Value]


class Frame:
    """What one evaluation works on. `slots` holds the `$variables`."""

    __slots__ = ("depth", "dot", "environment", "root", "size", "slots", "steps")

    def __init__(self, root: Value, environment: Environment, slots: int) -> None:
        self.root = root
        self.dot: Value = root
        self.environment = environment
        self.slots: list[Value] = [None] * slots
        self.steps = 0
        self.size = 0
        self.depth = 0


Expression = Callable[[Frame], Value]
# Returns None, or BREAK or CONTINUE of the loop around it.
Statement = Callable[[Frame, list[str]], object]
BREAK, CONTINUE = object(), object()


class Compiler:
    """Compiles the body of one template. `slots` is known once that is done."""

    def __init__(self, template: str) -> None:
        self._template = template
        self._scopes: list[dict[str, int]] = [{}]
        self._defined: dict[str, tuple[Statement, int]] = {}
        # Whether the dot is still the context, so that its first segment is a variable.
        self._at_root = True
        self.slots = 0

    def fault(self, node: Node, code: str, message: str, hint: str | None = None) -> TemplateError:
        return TemplateError(
            message, code=code, template=self._template, start=node.start, end=node.end, hint=hint
        )

    # Statements

    def body(self, nodes: Sequence[Node]) -> Statement:
        for node in nodes:
            if isinstance(node, Define):
                self._define(node)
        steps = [self._statement(node) for node in nodes if not isinstance(node, Define)]
        if len(steps) == 1:
            return steps[0]

        def run(frame: Frame, out: list[str]) -> object:
            for step in steps:
                signal = step(frame, out)
                if signal is not None:
                    return signal
            return None

        return run

    def _statement(self, node: Node) -> Statement:
        if isinstance(node, Text):
            text = node.value
            return self._emit(node, lambda frame: text)
        if isinstance(node, Output):
            value = self.expression(node.value)
            return self._emit(node, lambda frame: to_text(value(frame)))
        if isinstance(node, Assign):
            return self._assign(node)
        if isinstance(node, If):
            return self._if(node)
        if isinstance(node, With):
            return self._with(node)
        if isinstance(node, Range):
            return self._range(node)
        if isinstance(node, Break):
            return lambda frame, out: BREAK
        if isinstance(node, Continue):
            return lambda frame, out: CONTINUE
        assert isinstance(node, Invoke)
        return self._invoke(node)

    def _emit(self, node: Node, text: Callable[[Frame], str]) -> Statement:
        def run(frame: Frame, out: list[str]) -> None:
            piece = text(frame)
            frame.size += len(piece)
            if frame.size > MAX_OUTPUT:
                raise self.fault(node, LIMIT, f"the text grows beyond {MAX_OUTPUT:,} characters")
            out.append(piece)

        return run

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

    def _assign(self, node: Assign) -> Statement:
        value = self.expression(node.value)
        slot = self._declare(node.name) if node.declares else self._slot(node.name, node)

        def run(frame: Frame, out: list[str]) -> None:
            frame.slots[slot] = value(frame)

        return run

    def _scoped(self, nodes: Sequence[Node], at_root: bool) -> Statement:
        was = self._at_root
        self._at_root = was and at_root
        self._scopes.append({})
        body = self.body(nodes)
        self._scopes.pop()
        self._at_root = was
        return body

    def _if(self, node: If) -> Statement:
        condition = self.expression(node.condition, guarded=True)
        self._scopes.append({})
        slot = self._declare(node.variable) if node.variable is not None else None
        body = self._scoped(node.body, True)
        otherwise = self._scoped(node.otherwise, True)
        self._scopes.pop()

        def run(frame: Frame, out: list[str]) -> object:
            value = condition(frame)
            if slot is not None:
                frame.slots[slot] = value
            return body(frame, out) if truth(value) else otherwise(frame, out)

        return run

    def _with(self, node: With) -> Statement:
        value_of = self.expression(node.value, guarded=True)
        self._scopes.append({})
        slot = self._declare(node.variable) if node.variable is not None else None
        body = self._scoped(node.body, False)
        otherwise = self._scoped(node.otherwise, True)
        self._scopes.pop()

        def run(frame: Frame, out: list[str]) -> object:
            value = value_of(frame)
            if slot is not None:
                frame.slots[slot] = value
            if not truth(value):
                return otherwise(frame, out)
            outer, frame.dot = frame.dot, value
            signal = body(frame, out)
            frame.dot = outer
            return signal

        return run

    def _range(self, node: Range) -> Statement:
        items_of = self.expression(node.items, guarded=True)
        self._scopes.append({})
        key_slot = self._declare(node.key_variable) if node.key_variable is not None else None
        item_slot = self._declare(node.value_variable) if node.value_variable is not None else None
        body = self._scoped(node.body, False)
        self._scopes.pop()
        otherwise = self._scoped(node.otherwise, True)

        def run(frame: Frame, out: list[str]) -> object:
            pairs = self._pairs(node, items_of(frame))
            if not pairs:
                return otherwise(frame, out)
            outer = frame.dot
            for key, item in pairs:
                self.step(frame, node)
                if key_slot is not None:
                    frame.slots[key_slot] = key
                if item_slot is not None:
                    frame.slots[item_slot] = item
                frame.dot = item
                if body(frame, out) is BREAK:
                    break
            frame.dot = outer
            return None

        return run

    def _pairs(self, node: Range, items: Value) -> list[tuple[Value, Value]]:
        if items is None:
            return []
        if isinstance(items, (list, tuple)):
            return list(enumerate(items))
        if isinstance(items, Mapping):
            return [(key, items[key]) for key in sorted(items)]
        if isinstance(items, int) and not isinstance(items, bool):
            if items > MAX_STEPS:
                raise self.fault(node, LIMIT, f"`range {items}` takes more than {MAX_STEPS} steps")
            return [(i, i) for i in range(items)]
        raise self.fault(
            node.items, FUNCTION, f"`range` needs a list or a map and got {_describe(items)}"
        )

    def step(self, frame: Frame, node: Node) -> None:
        frame.steps += 1
        if frame.steps > MAX_STEPS:
            raise self.fault(node, LIMIT, f"the template takes more than {MAX_STEPS:,} steps")

    def _define(self, node: Define) -> None:
        inner = Compiler(self._template)
        inner._at_root = False
        inner._defined = self._defined
        body = inner.body(node.body)
        self._defined[node.name] = (body, inner.slots)

    def _invoke(self, node: Invoke) -> Statement:
        value_of = self.expression(node.value) if node.value is not None else None

        def run(frame: Frame, out: list[str]) -> None:
            found = self._defined.get(node.name)
            if found is None:
                raise self.fault(node, FUNCTION, f"no template is defined as {node.name!r}")
            body, slots = found
            if frame.depth >= MAX_TEMPLATE_DEPTH:
                raise self.fault(node, LIMIT, f"the template {node.name!r} invokes itself for ever")
            self.step(frame, node)
            value = value_of(frame) if value_of is not None else None
            inner = Frame(value, frame.environment, slots)  # `$` is the argument in a template
            inner.steps, inner.size, inner.depth = frame.steps, frame.size, frame.depth + 1
            body(inner, out)
            frame.steps, frame.size = inner.steps, inner.size

        return run

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
        if node.op in ("+", "-"):
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
        minus = node.op == "-"

        def run(frame: Frame) -> Value:
            a, b = left(frame), right(frame)
            if _is_number(a) and _is_number(b):
                return a - b if minus else a + b
            if not minus and isinstance(a, str) and isinstance(b, str):
                return a + b
            raise self.fault(
                node,
                FUNCTION,
                f"`{node.op}` does not fit {_describe(a)} and {_describe(b)}",
            )

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
        name = Literal(node.end - len(node.name) if not node.args else node.start, node.end, None)
        if node.name in ("and", "or", "not"):
            operands = [*node.args, *([node.piped] if node.piped is not None else [])]
            if not operands or (node.name == "not" and len(operands) != 1):
                raise self.fault(node, ARITY, f"`{node.name}` needs an argument")
            if node.name == "not":
                return self.expression(Not(node.start, node.end, operands[0]))
            return self._lazy(operands, stop_at=node.name == "or")
        function = FUNCTIONS[node.name]
        self._check_arity(node, function, name)
        inner = guarded or function.guard
        args = [self.expression(arg, inner) for arg in node.args]
        piped = self.expression(node.piped, inner) if node.piped is not None else None
        keywords = {key: self.expression(value, inner) for key, value in node.keywords}
        call, needs_environment = function.call, function.environment
        plain = piped is None and not keywords and not needs_environment

        def run(frame: Frame) -> Value:
            frame.steps += 1
            if frame.steps > MAX_STEPS:
                raise self.fault(node, LIMIT, f"the template takes more than {MAX_STEPS:,} steps")
            values = [arg(frame) for arg in args]
            try:
                if plain:
                    return call(*values)
                if piped is not None:
                    values = arrange(function, piped(frame), values)
                if needs_environment:
                    values = [frame.environment, *values]
                if keywords:
                    return call(*values, **{key: value(frame) for key, value in keywords.items()})
                return call(*values)
            except FunctionError as fault:
                raise self.fault(node, FUNCTION, str(fault)) from None
            except RecursionError:
                raise self.fault(node, LIMIT, f"`{node.name}`: nested too deep") from None

        return run

    def _check_arity(self, node: Call, function: Function, name: Node) -> None:
        given = len(node.args) + (node.piped is not None)
        least, most = function.min_args, function.max_args
        if given < least or (most is not None and given > most):
            wanted = (
                f"{least}"
                if least == most
                else f"at least {least}"
                if most is None
                else f"{least} to {most}"
            )
            raise self.fault(
                node,
                ARITY,
                f"`{node.name}` takes {wanted} argument{'s' if wanted != '1' else ''}, not {given}",
            )
        for key, value in node.keywords:
            if key != "attr":
                raise self.fault(value, ARITY, f"`{node.name}` has no argument named `{key}`")

    # Paths

    def _path(self, node: Path, guarded: bool) -> Expression:
        base = self._base(node)
        for segment in node.segments:
            if isinstance(segment, Arguments):
                raise self.fault(
                    node,
                    FUNCTION,
                    "a method call needs a tool: `.tools.<id>.<method>(…)` in a prompt",
                )
        if not node.segments:
            return base
        at_root = node.base == "$" or (node.base == "." and self._at_root)
        keys = [s.name for s in node.segments if isinstance(s, Key)]
        steps = [
            self.expression(s.index) if isinstance(s, Subscript) else None for s in node.segments
        ]
        slow = self._walker(node, base, steps, at_root, guarded)
        if len(keys) != len(node.segments) or any(isinstance(key, int) for key in keys):
            return slow

        def fast(frame: Frame) -> Value:
            value = frame.root if at_root else base(frame)
            try:
                for key in keys:
                    value = value[key]
            except (KeyError, TypeError, IndexError):
                return slow(frame)
            return value

        return fast

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
            value = base(frame)
            for i, segment in enumerate(node.segments):
                subscript = subscripts[i]
                key: Value = (
                    subscript(frame) if subscript is not None else segment.name  # type: ignore[union-attr]
                )
                if at_root and i == 0 and isinstance(value, Mapping) and key not in value:
                    raise self._unknown_variable(segment, str(key), value)
                if at_root and i == 1 and _names(node, 0) == "tasks" and isinstance(value, Mapping):
                    if key not in value:
                        raise self._unknown_task(segment, str(key), value)
                    if value[key] is None:
                        return None  # known, and did not run (§11.3)
                found, value, why = _member(value, key)
                if found:
                    continue
                if guarded or (why is None and i == last):
                    return None
                raise self._missing(node, i, key, why)
            return value

        return run

    def _missing(self, node: Path, i: int, key: Value, why: str | None) -> TemplateError:
        path = self._template[node.start : node.end]
        segment = node.segments[i]
        message = f'path {path}: "{key}" not found' if why is None else f"path {path}: {why}"
        return TemplateError(
            message,
            code=MISSING,
            template=self._template,
            start=segment.start,
            end=segment.end,
            hint=f"guard it: `{path} | default …`, or `{{{{ if {path} }}}}`",
        )

    def _unknown_variable(self, segment: Node, key: str, value: Context) -> TemplateError:
        from compozy_prefect.language.names import nearest

        near = nearest(key, [str(k) for k in value])
        known = ", ".join(f".{k}" for k in sorted(value)) or "none"
        return self.fault(
            segment,
            UNKNOWN_VARIABLE,
            f"unknown variable `.{key}`",
            f"did you mean `.{near}`?" if near else f"available here: {known}",
        )

    def _unknown_task(self, segment: Node, key: str, tasks: Context) -> TemplateError:
        from compozy_prefect.language.names import nearest

        near = nearest(key, [str(k) for k in tasks])
        known = ", ".join(sorted(tasks)) or "none"
        return self.fault(
            segment,
            MISSING,
            f"unknown task `{key}`",
            f"did you mean `{near}`?" if near else f"tasks: {known}",
        )


def _names(node: Path, i: int) -> str | int | None:
    segment = node.segments[i]
    return segment.name if isinstance(segment, Key) else None


def _member(value: Value, key: Value) -> tuple[bool, Value, str | None]:
    """Whether `value` has `key`, what stands there, and else why it cannot have it.

    A reason of None means a plain missing key of a map, which is lenient as the last segment.
    """
    if isinstance(value, Mapping):
        for name in (key, str(key)):
            if isinstance(name, str) and name in value:
                return True, value[name], None
        return False, None, None
    if value is None:
        return False, None, f'"{key}" is read from null'
    if isinstance(value, (list, tuple)):
        if isinstance(key, int) and not isinstance(key, bool):
            if 0 <= key < len(value):
                return True, value[key], None
            return False, None, f"index {key} is out of range of a list of {len(value)}"
        return False, None, f'a list has no key "{key}"'
    return False, None, f'{_describe(value)} has no key "{key}"'


def _is_number(value: Value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _describe(value: Value) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()}"
    if isinstance(value, (int, float)):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the text {value[:40]!r}"
    if isinstance(value, Mapping):
        return "a map"
    return "a list" if isinstance(value, (list, tuple)) else type(value).__name__
