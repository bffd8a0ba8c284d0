"""The store: the only room that speaks SQL.

`database` is the engine (one writer, read-only readers). Each noun has a file of functions, which take the transaction
first.
"""
