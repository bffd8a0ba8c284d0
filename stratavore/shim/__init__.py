"""The holder of runners: its zygote, its wire protocol, its client. Standard library only, no asyncio, no policy.

The rest of Stratavore imports `stratavore.shim.client` and nothing else of this room, and this room nothing of it.
"""
