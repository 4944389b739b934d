"""What the agent needs of AWS without its SDK, which is larger than the agent: signatures and credentials."""
