-- The outcome of each write that carried an idempotency key, under an HMAC of who sent it and where: a session may
-- call the function below, and could plant an outcome for anybody whose principal and key it knows, if those were
-- the key. The earlier table and function stay for replicas of the version before, and are read by nothing else.
CREATE TABLE dominus.outcomes (
  slot bytea PRIMARY KEY,
  fingerprint text NOT NULL,
  outcome text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX outcomes_created_at ON dominus.outcomes (created_at);

-- Keeps the outcome of a write in the write's own transaction; a slot that is there already is a unique violation.
CREATE FUNCTION dominus_api.remember(slot bytea, fingerprint text, outcome text)
RETURNS boolean
LANGUAGE sql
VOLATILE
SECURITY DEFINER
BEGIN ATOMIC
  INSERT INTO dominus.outcomes (slot, fingerprint, outcome)
  VALUES (remember.slot, remember.fingerprint, remember.outcome)
  RETURNING true;
END;

REVOKE ALL ON FUNCTION dominus_api.remember(bytea, text, text) FROM PUBLIC;
