-- Secure tables: which they are, who may touch them, and the trail of who did. A secure table belongs to a role of its
-- own, which no session can take (see secure_role.py): that, not what a server remembers of it, keeps others out.

CREATE TABLE dominus.secure_tables (
  project text NOT NULL,
  environment text NOT NULL,
  id uuid NOT NULL DEFAULT gen_random_uuid(),
  table_name text COLLATE "C" NOT NULL,
  schema_name text COLLATE "C" NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (project, environment, id),
  UNIQUE (project, environment, schema_name, table_name)
);
CREATE INDEX secure_tables_name ON dominus.secure_tables (schema_name, table_name);

CREATE TABLE dominus.secure_table_scopes (
  project text NOT NULL,
  environment text NOT NULL,
  secure_table_id uuid NOT NULL,
  scope_id uuid NOT NULL,
  PRIMARY KEY (project, environment, secure_table_id, scope_id),
  FOREIGN KEY (project, environment, secure_table_id) REFERENCES dominus.secure_tables ON DELETE CASCADE,
  FOREIGN KEY (project, environment, scope_id) REFERENCES dominus.scopes ON DELETE CASCADE
);
CREATE INDEX secure_table_scopes_scope_id ON dominus.secure_table_scopes (project, environment, scope_id);

-- NULL: the table is not secure. Else the scopes of which a caller needs one; none: whoever may touch tables at all.
-- Every project's, since all projects have the same tables.
CREATE FUNCTION dominus_api.secure_table(schema_name text, table_name text)
RETURNS text[]
LANGUAGE sql
STABLE
SECURITY DEFINER
BEGIN ATOMIC
  SELECT CASE WHEN count(*) > 0 THEN coalesce(array_agg(DISTINCT s.slug) FILTER (WHERE s.slug IS NOT NULL), '{}') END
  FROM dominus.secure_tables t
  LEFT JOIN dominus.secure_table_scopes l
    ON (l.project, l.environment, l.secure_table_id) = (t.project, t.environment, t.id)
  LEFT JOIN dominus.scopes s ON (s.project, s.environment, s.id) = (l.project, l.environment, l.scope_id)
  WHERE t.schema_name = secure_table.schema_name AND t.table_name = secure_table.table_name;
END;
REVOKE ALL ON FUNCTION dominus_api.secure_table(text, text) FROM PUBLIC;

-- What servers remember of tables ends with each change.
CREATE FUNCTION dominus.forget_tables()
RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
  PERFORM pg_catalog.pg_notify('dominus_catalog', '');
  RETURN NULL;
END
$$;
CREATE TRIGGER forget_tables AFTER INSERT OR UPDATE OR DELETE ON dominus.secure_tables
  FOR EACH STATEMENT EXECUTE FUNCTION dominus.forget_tables();
CREATE TRIGGER forget_tables AFTER INSERT OR UPDATE OR DELETE ON dominus.secure_table_scopes
  FOR EACH STATEMENT EXECUTE FUNCTION dominus.forget_tables();

-- The trail: one chain for each project and environment. `filters` and `ids` are JSON as it was written, since its
-- hash has to be the same for ever.
CREATE TABLE dominus.audit (
  project text NOT NULL,
  environment text NOT NULL,
  number bigint NOT NULL,
  at timestamptz NOT NULL,
  subject text NOT NULL,
  actor text NOT NULL,
  reason text NOT NULL,
  operation text NOT NULL,
  schema_name text NOT NULL,
  table_name text NOT NULL,
  filters text,
  row_count bigint NOT NULL,
  ids text,
  request_id text NOT NULL,
  -- `ok`, or the code of the error with which it was refused or failed.
  outcome text NOT NULL,
  -- What the key of the MAC was made of, for this entry alone.
  nonce text NOT NULL,
  hash bytea NOT NULL,
  mac text NOT NULL,
  PRIMARY KEY (project, environment, number),
  CONSTRAINT counts_from_one CHECK (number > 0)
);
CREATE INDEX audit_table ON dominus.audit (project, environment, schema_name, table_name, number);
CREATE INDEX audit_actor ON dominus.audit (project, environment, actor, number);

CREATE TABLE dominus.audit_heads (
  project text NOT NULL,
  environment text NOT NULL,
  number bigint NOT NULL,
  nonce text NOT NULL,
  hash bytea NOT NULL,
  mac text NOT NULL,
  PRIMARY KEY (project, environment)
);

CREATE FUNCTION dominus.refuse_change()
RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
  RAISE EXCEPTION 'the audit trail takes new rows only' USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON dominus.audit
  FOR EACH ROW EXECUTE FUNCTION dominus.refuse_change();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON dominus.audit
  FOR EACH STATEMENT EXECUTE FUNCTION dominus.refuse_change();
CREATE TRIGGER no_delete BEFORE DELETE ON dominus.audit_heads
  FOR EACH ROW EXECUTE FUNCTION dominus.refuse_change();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON dominus.audit_heads
  FOR EACH STATEMENT EXECUTE FUNCTION dominus.refuse_change();
CREATE TRIGGER one_further BEFORE UPDATE ON dominus.audit_heads
  FOR EACH ROW WHEN (NEW.number <> OLD.number + 1) EXECUTE FUNCTION dominus.refuse_change();

-- For the role of secure tables alone. Not in dominus_api, all of which is the data role's: a session could forge a row.
CREATE SCHEMA dominus_secure;

-- A text as it stands in what is hashed, so that no two lists of texts are hashed alike.
CREATE FUNCTION dominus_secure.sized(value text)
RETURNS text
LANGUAGE sql
IMMUTABLE
RETURN coalesce(length(value)::text || ':' || value, '-');

-- HMAC in the form that needs nothing but SHA-256; a key is used for one text alone.
CREATE FUNCTION dominus_secure.mac(key bytea, number bigint, hash bytea)
RETURNS text
LANGUAGE sql
IMMUTABLE
RETURN encode(sha256(key || sha256(key || convert_to(number::text || ' ', 'UTF8') || hash)), 'hex');

-- Writes an entry, in the transaction of the access. The head of the chain is locked until its end: it is the last lock
-- that the transaction takes. The keys are made outside of the database, for this entry, and not kept.
CREATE FUNCTION dominus_secure.note(entry text, row_count bigint, ids text, entry_key bytea, head_key bytea)
RETURNS bigint
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  added dominus.audit := json_populate_record(NULL::dominus.audit, entry::json);
  previous bytea;
BEGIN
  FOR attempt IN 1..2 LOOP
    SELECT h.number + 1, h.hash INTO added.number, previous
    FROM dominus.audit_heads h
    WHERE h.project = added.project AND h.environment = added.environment
    FOR UPDATE;
    EXIT WHEN FOUND;
    INSERT INTO dominus.audit_heads (project, environment, number, nonce, hash, mac)
    VALUES (added.project, added.environment, 0, '', '\x', '')
    ON CONFLICT DO NOTHING;
  END LOOP;
  added.at := clock_timestamp();
  added.row_count := coalesce(note.row_count, 0);
  added.ids := note.ids;
  added.hash := sha256(previous || convert_to(
    dominus_secure.sized(added.project) || dominus_secure.sized(added.environment)
    || dominus_secure.sized(added.number::text)
    || dominus_secure.sized(to_char(added.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"'))
    || dominus_secure.sized(added.subject) || dominus_secure.sized(added.actor)
    || dominus_secure.sized(added.reason) || dominus_secure.sized(added.operation)
    || dominus_secure.sized(added.schema_name) || dominus_secure.sized(added.table_name)
    || dominus_secure.sized(added.filters) || dominus_secure.sized(added.row_count::text)
    || dominus_secure.sized(added.ids) || dominus_secure.sized(added.request_id)
    || dominus_secure.sized(added.outcome) || dominus_secure.sized(added.nonce), 'UTF8'));
  added.mac := dominus_secure.mac(entry_key, added.number, added.hash);
  INSERT INTO dominus.audit SELECT added.*;
  UPDATE dominus.audit_heads h
  SET number = added.number, nonce = added.nonce, hash = added.hash,
    mac = dominus_secure.mac(head_key, added.number, added.hash)
  WHERE h.project = added.project AND h.environment = added.environment;
  RETURN added.number;
END
$$;

-- Those who register and release tables take turns, before they look at what others have registered. A lock on a table
-- that they have written to already would be a deadlock for two of them.
CREATE TABLE dominus.secure_turns ();

-- After a statement on a secure table with foreign keys: PostgreSQL looks into the tables at their other end, whose
-- indexes may call what sessions made. What that prepared must not run in the place of a statement of ours.
CREATE FUNCTION dominus_secure.require_clean()
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF EXISTS (SELECT FROM pg_catalog.pg_prepared_statements WHERE from_sql) THEN
    RAISE EXCEPTION 'a table that a foreign key leads to runs what a session made' USING ERRCODE = 'insufficient_privilege';
  END IF;
END
$$;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA dominus_secure FROM PUBLIC;
