"""Which variables are keys to the providers of models, and which agents take them.

Rule: an agent is given the keys that it may need to reach its own models. What reaches any provider's, and what is no
agent that we know, takes all of them.
"""

from collections.abc import Mapping

_ANTHROPIC = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN")
_OPENAI = ("OPENAI_API_KEY", "CODEX_API_KEY")
_GOOGLE = ("GEMINI_API_KEY", "GOOGLE_API_KEY")
_OTHERS = (
    *("OPENCODE_API_KEY", "OPENROUTER_API_KEY", "GROQ_API_KEY", "MISTRAL_API_KEY"),
    *("DEEPSEEK_API_KEY", "XAI_API_KEY"),
)
KEYS = frozenset((*_ANTHROPIC, *_OPENAI, *_GOOGLE, *_OTHERS))
_TAKEN: Mapping[str, tuple[str, ...]] = {
    "claude": _ANTHROPIC,
    "codex": (*_OPENAI, *_OTHERS),  # its `model_providers` may name any of them
    "gemini": _GOOGLE,
}


def foreign_keys(kind: str) -> frozenset[str]:
    """The keys that an agent of that kind has no use for."""
    return KEYS - frozenset(_TAKEN.get(kind, KEYS))
