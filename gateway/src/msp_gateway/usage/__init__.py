"""What requests used, as the workers tell it, and to whom it is accounted."""
