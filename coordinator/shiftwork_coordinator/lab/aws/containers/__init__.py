"""Services of the lab: what moto lacks of ECS. Tasks are processes of this machine, behind the lab's load balancers.

`task.py` says what a task is, `running.py` runs one, `scheduler.py` keeps as many as each task set wants, and `ecs.py`
answers for them.
"""
