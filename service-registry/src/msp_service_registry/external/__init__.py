"""OpenAI-compatible servers that do not register themselves: they are named in a file, and asked."""
