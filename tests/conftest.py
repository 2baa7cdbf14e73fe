"""What holds for every test."""

import os

# Early: importing it while pytest ends meets a fault of CPython 3.11.2 (python/cpython#106905).
from hypothesis import settings

settings.register_profile("patient", deadline=None)  # machines differ; speed is no property here
settings.load_profile("patient")

# No test may meet a real credential or a real model by accident.
for name in list(os.environ):
    if name.startswith(("ANTHROPIC", "CLAUDE")):
        del os.environ[name]
