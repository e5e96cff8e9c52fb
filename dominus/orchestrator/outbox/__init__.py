"""The outbox: mails that were accepted, and the task that hands them to the relay."""
