"""Product code for tests, yours and ours."""
