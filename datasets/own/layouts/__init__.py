"""Recognisers of layouts, one a file: each looks at the names of files and says what it sees, or nothing."""
