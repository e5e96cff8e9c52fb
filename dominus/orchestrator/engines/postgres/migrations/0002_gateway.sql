-- The database logins made for native sessions, on every engine; of a password nothing is kept here.
CREATE TABLE dominus.gateway_logins (
  username text PRIMARY KEY,
  target text NOT NULL,
  principal text NOT NULL,
  project text NOT NULL,
  environment text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  -- From then on it opens no connections.
  expires_at timestamptz NOT NULL,
  -- Its owner needs it no more: its connections are ended too.
  is_released boolean NOT NULL DEFAULT false,
  -- When the reaper looks at it; put off by whoever is at work on it.
  reap_after timestamptz NOT NULL
);
CREATE INDEX gateway_logins_reap_after ON dominus.gateway_logins (reap_after);
CREATE INDEX gateway_logins_principal ON dominus.gateway_logins (principal);
