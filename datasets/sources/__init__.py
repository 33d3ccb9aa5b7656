"""One file a data set: where its raw files are and what they mean."""
