"""Lines of programs: days, storing, finding, following, forwarding."""
