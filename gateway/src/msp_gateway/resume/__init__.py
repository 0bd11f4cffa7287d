"""Streams whose worker died are gone on with by another replica."""
