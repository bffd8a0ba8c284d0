"""What every stand-in answers: the prompt itself says it.

- `say TEXT`: TEXT
- `count to N [slowly|fast]`: word-1 word-2 … word-N, each its own piece of the stream; slowly: with pauses
- `run COMMAND`: asks for the agent's shell tool with COMMAND, then repeats what the tool said
- `delegate PROMPT`: asks for the agent's tool that starts a sub-agent, with PROMPT, then repeats what that said
- `fail with STATUS`: an API error with that HTTP status; 429 says that the allowance is used up until RESETS_AT
- anything else: GREETING
"""

import re
from dataclasses import dataclass
from typing import NamedTuple

GREETING = "Hello from the stand-in."

RESETS_AT = 4102444800
"""The beginning of the year 2100: in the future, and the same in every run."""


class Usage(NamedTuple):
    """What one answer is billed with, in classes that are disjoint whatever the API calls them."""

    input: int
    output: int
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    cache_read: int = 0
    thoughts: int = 0
    """The part of the output that was not shown."""


class Bill(NamedTuple):
    """One answer that was served. Where it was cut off, `usage` is what the agent was told of it by then."""

    number: int
    said: str
    usage: Usage
    is_whole: bool = True


@dataclass(frozen=True)
class Answer:
    """One answer of a model: an error, or a wish to run a command, or words."""

    words: tuple[str, ...] = ()
    slow: bool = False
    command: str | None = None
    task: str | None = None
    """What a sub-agent is to be told."""
    error_status: int | None = None

    @property
    def pieces(self) -> tuple[str, ...]:
        """The words as they are streamed: joined, they are the text."""
        return tuple(word if i == 0 else f" {word}" for i, word in enumerate(self.words))

    @property
    def text(self) -> str:
        return " ".join(self.words)

    @property
    def output_tokens(self) -> int:
        """A made-up but deterministic count, so that tests can foretell the usage."""
        return len(self.words) if self.is_said else 10

    @property
    def is_said(self) -> bool:
        """In words; else it is a wish for a tool."""
        return self.command is None and self.task is None


def answer_to(prompt: str) -> Answer:
    """The answer to what the user said last."""
    prompt = prompt.strip()
    if found := re.fullmatch(r"count to (\d+)( slowly| fast)?", prompt):
        return Answer(tuple(f"word-{i}" for i in range(1, int(found[1]) + 1)), slow=found[2] is not None)
    if found := re.fullmatch(r"fail with (\d{3})", prompt):
        return Answer(error_status=int(found[1]))
    if found := re.fullmatch(r"run (.+)", prompt, re.DOTALL):
        return Answer(command=found[1])
    if found := re.fullmatch(r"delegate (.+)", prompt, re.DOTALL):
        return Answer(task=found[1])
    if found := re.fullmatch(r"say (.+)", prompt, re.DOTALL):
        return Answer(tuple(found[1].split()))
    return Answer(tuple(GREETING.split()))


def answer_to_tool(said: str) -> Answer:
    """The answer once the tool has run."""
    return Answer(("The", "command", "said:", *said.split()))


def usage_of(number: int, said: str, answer: Answer) -> Usage:
    """What the answer with this number uses: every class differs from answer to answer."""
    thoughts = number % 4
    return Usage(
        input=len(said.split()),
        output=answer.output_tokens + thoughts,
        cache_write_5m=150 + number % 7,
        cache_write_1h=10 * (number % 3),
        cache_read=2000 + number,
        thoughts=thoughts,
    )
