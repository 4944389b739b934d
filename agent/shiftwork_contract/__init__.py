"""What agent and coordinator agree on: words, lifecycle, AppSpec, revisions, messages.

Pure: no I/O, no clock. It is shipped with the agent because agents are upgraded slowest.
"""

__version__ = "0.1.0"
