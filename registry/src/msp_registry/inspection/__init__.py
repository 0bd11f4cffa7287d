"""What files say of a model, and whether they can be what they say."""
