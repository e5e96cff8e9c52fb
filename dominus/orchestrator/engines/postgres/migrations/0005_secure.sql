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

-- Locks the head of a chain until the end of the transaction; the last lock that a transaction takes.
CREATE FUNCTION dominus_secure.head(chain_project text, chain_environment text)
RETURNS TABLE (number bigint, hash bytea, at timestamptz)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  FOR attempt IN 1..2 LOOP
    SELECT h.number, h.hash INTO number, hash
    FROM dominus.audit_heads h
    WHERE h.project = chain_project AND h.environment = chain_environment
    FOR UPDATE;
    EXIT WHEN FOUND;
    INSERT INTO dominus.audit_heads VALUES (chain_project, chain_environment, 0, '\x', '') ON CONFLICT DO NOTHING;
  END LOOP;
  at := clock_timestamp();
  RETURN NEXT;
END
$$;

CREATE FUNCTION dominus_secure.append(entry text, head_mac text)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  added dominus.audit := json_populate_record(NULL::dominus.audit, entry::json);
BEGIN
  INSERT INTO dominus.audit SELECT added.*;
  UPDATE dominus.audit_heads h
  SET number = added.number, hash = added.hash, mac = head_mac
  WHERE h.project = added.project AND h.environment = added.environment;
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
