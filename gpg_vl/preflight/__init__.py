"""What would go wrong, found before it costs a GPU hour.

A configuration comes in; findings (ok, warn, fail, skip), each with its cure, go out.
"""
