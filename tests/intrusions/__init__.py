"""Attacks on the local page, over HTTP and from a page of somebody else in a browser."""
