"""The gateway: native connections of databases, opened with a session token and passed on byte for byte."""
