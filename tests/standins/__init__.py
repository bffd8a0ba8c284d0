"""Stand-ins for the model servers of the agents: loopback, standard library only, deterministic.

What they answer depends on the prompt alone; `answers.py` has the phrases, and each other module speaks one API.
`python -m tests.standins.messages --port 0` runs one by hand and prints its port.
"""
