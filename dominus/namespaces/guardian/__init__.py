"""What `dominus.auth` keeps: one namespace for each kind of record, and the flat names of the published interface."""
