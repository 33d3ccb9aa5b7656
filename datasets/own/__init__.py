"""A user's own folder: what lies in it, how it is laid out, what its classes and the pixels of its masks mean."""
