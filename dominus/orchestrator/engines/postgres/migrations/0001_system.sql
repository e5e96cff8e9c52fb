-- The system's own tables. Only their owner may see them; users' statements run under the data role, which
-- reaches dominus_api alone.

REVOKE ALL ON SCHEMA dominus FROM PUBLIC;

-- The outcome of each write that carried an idempotency key.
CREATE TABLE dominus.idempotency (
  principal text NOT NULL,
  key text NOT NULL,
  fingerprint text NOT NULL,
  outcome text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (principal, key)
);
CREATE INDEX idempotency_created_at ON dominus.idempotency (created_at);

-- One key per project and environment, wrapped by the master key.
CREATE TABLE dominus.data_keys (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  project text NOT NULL,
  environment text NOT NULL,
  wrapped bytea NOT NULL,
  master_id text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (project, environment)
);

CREATE TABLE dominus.secrets (
  project text NOT NULL,
  environment text NOT NULL,
  key text NOT NULL,
  version integer NOT NULL CHECK (version > 0),
  comment text,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  updated_by text NOT NULL,
  PRIMARY KEY (project, environment, key)
);

CREATE TABLE dominus.secret_versions (
  project text NOT NULL,
  environment text NOT NULL,
  key text NOT NULL,
  version integer NOT NULL CHECK (version > 0),
  nonce bytea NOT NULL,
  ciphertext bytea NOT NULL,
  data_key_id bigint NOT NULL REFERENCES dominus.data_keys (id),
  comment text,
  created_at timestamptz NOT NULL DEFAULT now(),
  created_by text NOT NULL,
  PRIMARY KEY (project, environment, key, version),
  FOREIGN KEY (project, environment, key)
    REFERENCES dominus.secrets (project, environment, key)
    ON DELETE CASCADE
);

-- The RS256 keys of the tokens; the private half encrypted under the master key.
CREATE TABLE dominus.signing_keys (
  kid text PRIMARY KEY,
  private_encrypted bytea NOT NULL,
  public_pem text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz
);

-- Who may mint; of the pre-shared key only its digest is kept.
CREATE TABLE dominus.psks (
  id text PRIMARY KEY,
  name text NOT NULL,
  psk_sha256 bytea NOT NULL UNIQUE,
  scopes text[] NOT NULL,
  project text,
  environment text,
  created_at timestamptz NOT NULL DEFAULT now(),
  disabled_at timestamptz
);

CREATE SCHEMA dominus_api;

-- Keeps the outcome of a write in the write's own transaction; a key that is there already is a unique violation.
CREATE FUNCTION dominus_api.remember(principal text, key text, fingerprint text, outcome text)
RETURNS boolean
LANGUAGE sql
VOLATILE
SECURITY DEFINER
BEGIN ATOMIC
  INSERT INTO dominus.idempotency (principal, key, fingerprint, outcome)
  VALUES (remember.principal, remember.key, remember.fingerprint, remember.outcome)
  RETURNING true;
END;

REVOKE ALL ON FUNCTION dominus_api.remember(text, text, text, text) FROM PUBLIC;
