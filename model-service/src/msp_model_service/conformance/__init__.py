"""What requests may say and what becomes of it: the tables that `/v1/models` and the documentation tell."""
