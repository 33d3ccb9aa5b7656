"""What a conversion writes, and how: records, shards and the manifest."""
