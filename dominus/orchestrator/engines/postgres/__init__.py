"""PostgreSQL: pools, errors, migrations, and the embedded server."""
