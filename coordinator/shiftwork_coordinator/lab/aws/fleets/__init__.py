"""Instances of the lab: what moto lacks of Auto Scaling and EC2. Each instance is an agent with an address of its own.

`machine.py` says what an instance is, `hosts.py` runs one, `metadata.py` tells it who it is, `launcher.py` has as many
as each group wants, `hooks.py` knows the rules of lifecycle hooks and `waiting.py` keeps them, and `autoscaling.py` and
`ec2.py` answer for all that.
"""
