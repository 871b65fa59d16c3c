"""What models may take (an extension of the language)."""

from compozy_prefect.language.models.base import Noun, Seconds, field


class Budget(Noun):
    """Limits on the calls of models; a call is refused when one of them is reached."""

    called = "`budget`"

    usd: float | None = field(None, "US dollars, at most.", gt=0, example=0.5)
    tokens: int | None = field(None, "Tokens of prompts and answers together.", gt=0, example=50000)
    calls: int | None = field(None, "Calls.", gt=0, example=20)
    seconds: Seconds | None = field(None, "Time since the first call.", gt=0, example="2m")
