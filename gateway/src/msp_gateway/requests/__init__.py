"""What happened to single requests: the newest ones, kept in memory, and the explanation of each."""
