"""`python -m stratavore.config > config.example.toml` makes the example anew."""

import sys

from stratavore.config.show import example

sys.stdout.write(example())
