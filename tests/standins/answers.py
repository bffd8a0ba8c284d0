"""What every stand-in answers: the prompt itself says it.

- `say TEXT`: TEXT
- `count to N [slowly]`: word-1 word-2 … word-N, each its own piece of the stream; slowly: with pauses
- `run COMMAND`: asks for the agent's shell tool with COMMAND, then repeats what the tool said
- `fail with STATUS`: an API error with that HTTP status
- anything else: GREETING
"""

import re
from dataclasses import dataclass

GREETING = "Hello from the stand-in."


@dataclass(frozen=True)
class Answer:
    """One answer of a model: an error, or a wish to run a command, or words."""

    words: tuple[str, ...] = ()
    slow: bool = False
    command: str | None = None
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
        return len(self.words) if self.command is None else 10


def answer_to(prompt: str) -> Answer:
    """The answer to what the user said last."""
    prompt = prompt.strip()
    if found := re.fullmatch(r"count to (\d+)( slowly)?", prompt):
        return Answer(tuple(f"word-{i}" for i in range(1, int(found[1]) + 1)), slow=found[2] is not None)
    if found := re.fullmatch(r"fail with (\d{3})", prompt):
        return Answer(error_status=int(found[1]))
    if found := re.fullmatch(r"run (.+)", prompt, re.DOTALL):
        return Answer(command=found[1])
    if found := re.fullmatch(r"say (.+)", prompt, re.DOTALL):
        return Answer(tuple(found[1].split()))
    return Answer(tuple(GREETING.split()))


def answer_to_tool(said: str) -> Answer:
    """The answer once the tool has run."""
    return Answer(("The", "command", "said:", *said.split()))
