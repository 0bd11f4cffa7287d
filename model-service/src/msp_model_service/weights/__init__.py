"""A model's files: from the registry into the cache of the host, verified before anything loads them."""
