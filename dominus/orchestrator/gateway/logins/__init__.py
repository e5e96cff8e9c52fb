"""Database logins of native sessions."""
