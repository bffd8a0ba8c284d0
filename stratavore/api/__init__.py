"""The doors of the daemon: routes, and the servers that answer them."""
