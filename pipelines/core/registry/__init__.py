"""Published versions: what each is, which one is in service, and how that changes; in a folder or on S3."""
