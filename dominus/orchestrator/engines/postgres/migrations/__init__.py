"""The system schema, numbered .sql files."""
