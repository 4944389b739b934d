"""`python -m shiftwork_agent`."""

from shiftwork_agent.cli import main

main(prog_name="shiftwork-agent")
