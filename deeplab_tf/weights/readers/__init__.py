"""One file a format of weights: bytes in, arrays by name out. No code of a file is ever run."""
