"""Test files: what goes into a workflow, what is answered to it, and what is to come out.

Where a value is expected, a map may be a matcher; `testing.expect` says which there are.
"""

from typing import Any, ClassVar, Literal

from compozy_prefect.language.models.base import Data, Noun, Seconds, Variables, field


class _Closed(Noun):
    """A key that is not known would let a test pass that looks at nothing: it is an error."""

    is_closed: ClassVar[bool] = True


class Surroundings(_Closed):
    """What a test file says for all of its cases, and a case for itself."""

    workflow: str | None = field(None, "What is run; needed if the project has several workflows.")
    mocks: str | dict[str, Any] | None = field(
        None,
        "Answers instead of agents and tools, as a map or the path of a file from here; "
        "those of a case lie over those of its file.",
    )
    cassette: str | None = field(None, "Recorded answers, of `compozy run --record`: a file.")
    offline: bool | None = field(
        None, "Whether what nothing else answers is made up; true if not given."
    )
    env: Variables = field({}, "Variables of the environment, over those of the process.")
    timeout: Seconds | None = field(None, "How long a case may take; 60s if not given.", gt=0)


class GivenSignal(_Closed):
    """A signal that the run is given."""

    called = "a signal"

    name: str = field(..., "What a `wait` task waits for.", min_length=1)
    payload: dict[str, Any] = field({}, "What it brings.")


class ExpectedError(_Closed):
    """How something failed."""

    called = "an expected error"

    code: Data = field(None, "Its code.", example="TIMEOUT")
    message: Data = field(None, "What it says.", example={"$contains": "busy"})
    details: Data = field(None, "What is known besides.")


Ended = Literal["SUCCESS", "FAILED", "TIMED_OUT", "CANCELED"]
InAWord = Literal["SUCCESS", "FAILED", "TIMED_OUT", "CANCELED", "skipped", "not run"]


class ExpectedTask(_Closed):
    """How a task ended."""

    called = "an expected task"

    status: Ended | None = field(None, "How.")
    input: Data = field(None, "Its `with`, as it was rendered.")
    output: Data = field(None, "What it gave.")
    error: ExpectedError | None = field(None, "How it failed.")
    route_taken: Data = field(None, "The key of the route that a router chose.", example="urgent")
    attempts: Data = field(None, "How often it was tried.", example={"$gt": 1})


class Expected(_Closed):
    """What is to come out. A map is a part of what is seen, a list and a value are all of it."""

    called = "`expect`"

    status: Literal["SUCCESS", "FAILED"] | None = field(
        None, "How the run ends; SUCCESS if not given, or FAILED with an `error`."
    )
    output: Data = field(
        None, "What the workflow gives.", example={"team": "security", "sure": {"$gt": 0.8}}
    )
    error: ExpectedError | None = field(None, "How it fails.")
    tasks: dict[str, ExpectedTask | InAWord] = field(
        {}, "How tasks end, by their ids.", example={"notify": "not run"}
    )


class Case(Surroundings):
    """One run, and what is expected of it."""

    name: str = field(..., "Unique in the file.", min_length=1)
    skip: str | None = field(None, "Why it is not run.", min_length=1)
    input: dict[str, Any] = field({}, "The input of the workflow.")
    signals: list[GivenSignal] = field([], "Given to `wait` tasks by their names, in this order.")
    expect: Expected | None = field(None, "What is to come out; that it succeeds, if not given.")


class Suite(Surroundings):
    """Tests of the workflows of a project."""

    called = "a test file"

    cases: list[Case] = field(..., "The tests.", min_length=1)
