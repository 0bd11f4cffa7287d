"""The short way of a request: from the client's connection to the worker's and back, with no task between.

Most requests are JSON, find a place and a kept connection at once, and are answered well. For those all is
done where bytes arrive. Whatever is otherwise, at any point, is handed to the ordinary way (`pipeline`,
`relay`) with all that was done so far, so that each decision stands in one place.
"""
