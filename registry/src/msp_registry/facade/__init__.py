"""The hub's protocol: answers, without I/O."""
