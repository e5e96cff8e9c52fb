"""Where the bytes of files lie: a local folder, or S3."""
