"""Blocks, variables and output → closures that write text.

Compiled once with the expressions in them (evaluate.py); every loop and every piece of text counts
towards the limits of effort.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from compozy_prefect.errors import TemplateError
from compozy_prefect.expressions.effort import LIMIT, MAX_OUTPUT, steps_of
from compozy_prefect.expressions.evaluate import (
    ABSENT,
    FUNCTION,
    UNDECLARED,
    ExpressionCompiler,
    Frame,
    Value,
)
from compozy_prefect.expressions.functions import FunctionError, to_text, truth
from compozy_prefect.expressions.functions.values import TOO_MANY_DIGITS, sorted_keys
from compozy_prefect.expressions.members import describe
from compozy_prefect.expressions.nodes import (
    Assign,
    Break,
    Continue,
    Define,
    If,
    Invoke,
    Key,
    Node,
    Output,
    Path,
    Range,
    Text,
    With,
)
from compozy_prefect.language.names import nearest

MAX_TEMPLATE_DEPTH = 40

# Returns None, or BREAK or CONTINUE of the loop around it.
Statement = Callable[[Frame, list[str]], object]
# The same for each of some dots in turn; where what is done only writes, no loop leaves it.
Statements = Callable[[Frame, Iterable[Value], list[str]], None]
BREAK, CONTINUE = object(), object()


class Compiler(ExpressionCompiler):
    """Compiles the body of one template."""

    def __init__(self, template: str) -> None:
        super().__init__(template)
        self._defined: dict[str, tuple[Statement, int]] = {}
        self._invoked: list[Invoke] = []

    def template(self, nodes: Sequence[Node]) -> Statement:
        """A whole template: `body`, and every template that it invokes is defined in it."""
        body = self.body(nodes)
        for node in self._invoked:
            if node.name not in self._defined:
                near = nearest(node.name, list(self._defined))
                raise self.fault(
                    node,
                    UNDECLARED,
                    f'no template is defined as "{node.name}"',
                    f'did you mean "{near}"?' if near else "write `{{ define … }}` for it",
                )
        return body

    def body(self, nodes: Sequence[Node]) -> Statement:
        for node in nodes:
            if isinstance(node, Define):
                self._define(node)
        steps = self._steps([node for node in nodes if not isinstance(node, Define)])
        if len(steps) == 1:
            return steps[0]

        def run(frame: Frame, out: list[str]) -> object:
            for step in steps:
                signal = step(frame, out)
                if signal is not None:
                    return signal
            return None

        return run

    def _steps(self, nodes: Sequence[Node]) -> list[Statement]:
        """The statements; what only writes, which is most of a loop, is one of them."""
        steps: list[Statement] = []
        writing: list[Node] = []
        for node in nodes:
            if isinstance(node, (Text, Output)):
                writing.append(node)
                continue
            if writing:
                steps.append(_once(self._writing(writing)))
                writing = []
            steps.append(self._statement(node))
        if writing:
            steps.append(_once(self._writing(writing)))
        return steps

    def _statement(self, node: Node) -> Statement:
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

    def _writing(self, nodes: Sequence[Node]) -> Statements:
        """Text and values one behind the other, which is what most loops do.

        A value that is a key of the dot is looked up here: in a loop, a call costs as much as it.
        """
        texts: list[list[str]] = [[]]  # before the first value, and behind each one
        values: list[Output] = []
        for node in nodes:
            if isinstance(node, Text):
                texts[-1].append(node.value)
            elif isinstance(node, Output):
                values.append(node)
                texts.append([])
        first, *behind = map("".join, texts)
        head = len(first)
        parts = [
            (_key_of_dot(node.value), self.expression(node.value), after, node)
            for node, after in zip(values, behind, strict=True)
        ]

        def run(frame: Frame, dots: Iterable[Value], out: list[str]) -> None:
            size = frame.size
            for dot in dots:
                if head:
                    size += head
                    if size > MAX_OUTPUT:
                        raise self._overflow(nodes[0])
                    out.append(first)
                for key, value_of, after, node in parts:
                    if key is None:
                        frame.dot = dot
                        value = value_of(frame)
                    else:
                        try:
                            value = dot[key]
                        except ABSENT:
                            frame.dot = dot
                            value = value_of(frame)
                    if type(value) is not str:
                        try:
                            value = f"{value}" if type(value) is int else to_text(value)
                        except (FunctionError, ValueError) as fault:
                            raise self._unprintable(node, fault) from None
                    value += after
                    size += len(value)
                    if size > MAX_OUTPUT:
                        raise self._overflow(node)
                    out.append(value)
            frame.size = size

        return run

    def _unprintable(self, node: Output, fault: Exception) -> Exception:
        if isinstance(fault, FunctionError):
            return self.fault(node.value, FUNCTION, str(fault))
        return self.fault(node.value, FUNCTION, TOO_MANY_DIGITS)

    def _overflow(self, node: Node) -> TemplateError:
        return self.fault(node, LIMIT, f"the text grows beyond {MAX_OUTPUT:,} characters")

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
        each, body = self._passes(node.body)
        self._scopes.pop()
        otherwise = self._scoped(node.otherwise, True)

        def run(frame: Frame, out: list[str]) -> object:
            items = items_of(frame)
            outer = frame.dot
            # Most loops are over a short list and name neither its items nor their places: all
            # passes are paid for at once.
            if item_slot is None and type(items) is list and items:
                frame.steps += len(items)
                if frame.steps <= frame.due:
                    each(frame, items, out)
                    frame.dot = outer
                    return None
                frame.steps -= len(items)
            pairs = self._pairs(node, items, frame)
            if pairs is None:
                return otherwise(frame, out)
            for key, item in pairs:
                frame.steps += 1
                if frame.steps > frame.due:
                    self.look(frame, node)
                if item_slot is not None:
                    frame.slots[item_slot] = item
                    if key_slot is not None:
                        frame.slots[key_slot] = key
                frame.dot = item
                if body(frame, out) is BREAK:
                    break
            frame.dot = outer
            return None

        return run

    def _passes(self, nodes: Sequence[Node]) -> tuple[Statements, Statement]:
        """The body of a loop, for all its passes and for a single one."""
        if all(isinstance(node, (Text, Output)) for node in nodes):
            was, self._at_root = self._at_root, False
            writing = self._writing(nodes)
            self._at_root = was
            return writing, _once(writing)
        body = self._scoped(nodes, False)

        def each(frame: Frame, items: Iterable[Value], out: list[str]) -> None:
            for item in items:
                frame.dot = item
                if body(frame, out) is BREAK:
                    break

        return each, body

    def _pairs(
        self, node: Range, items: Value, frame: Frame
    ) -> Iterable[tuple[Value, Value]] | None:
        """Keys and elements in their order, lazily; None where there are none."""
        if not items:
            return None
        if isinstance(items, (list, tuple)):
            return enumerate(items)
        if isinstance(items, dict):
            self.step(frame, node, steps_of("range", [items]))
            return [(key, items[key]) for key in sorted_keys(items)]
        if isinstance(items, int) and not isinstance(items, bool):
            return ((i, i) for i in range(items)) if items > 0 else None
        raise self.fault(
            node.items, FUNCTION, f"`range` needs a list or a map and got {describe(items)}"
        )

    def _define(self, node: Define) -> None:
        inner = Compiler(self._template)
        inner._at_root = False
        inner._in_define = True
        inner._defined = self._defined
        inner._invoked = self._invoked
        body = inner.body(node.body)
        self._defined[node.name] = (body, inner.slots)

    def _invoke(self, node: Invoke) -> Statement:
        value_of = self.expression(node.value) if node.value is not None else None
        self._invoked.append(node)

        def run(frame: Frame, out: list[str]) -> None:
            body, slots = self._defined[node.name]
            if frame.depth >= MAX_TEMPLATE_DEPTH:
                raise self.fault(node, LIMIT, f'the template "{node.name}" invokes itself for ever')
            self.step(frame, node)
            value = value_of(frame) if value_of is not None else None
            inner = Frame(value, frame.environment, slots)  # `$` is the argument in a template
            inner.steps, inner.size, inner.depth = frame.steps, frame.size, frame.depth + 1
            inner.due, inner.deadline = frame.due, frame.deadline
            body(inner, out)
            frame.environment = inner.environment
            frame.steps, frame.size = inner.steps, inner.size
            frame.due, frame.deadline = inner.due, inner.deadline

        return run


def _once(statements: Statements) -> Statement:
    return lambda frame, out: statements(frame, (frame.dot,), out)


def _key_of_dot(node: Node) -> str | None:
    """The `name` of `.name`."""
    if not isinstance(node, Path) or node.base != "." or len(node.segments) != 1:
        return None
    (segment,) = node.segments
    return segment.name if isinstance(segment, Key) and isinstance(segment.name, str) else None
