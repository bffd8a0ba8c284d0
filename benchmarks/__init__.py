"""How fast Stratavore is, beside others that do the same work: `python -m benchmarks`.

Rule 1: every figure has, in the same run, its floor (the same work by a bare loop without us) or says that it has none,
and the peers that can do the work at all. The ratio is what counts: machines differ, and this one is never alone.
Rule 2: what is missed is said as plainly as what is reached; a figure is the median of its runs, with the extremes.
Rule 3: all state lies on the disk on which a user's state lies; whatever is started is ended, by its pid.
"""
