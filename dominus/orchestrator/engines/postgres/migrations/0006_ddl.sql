-- The migrations of users' schemas: what was changed, by whom, and the SQL of both ways.

-- A row is locked while its schema is changed, so that changes of one schema take turns on all replicas.
CREATE TABLE dominus.ddl_schemas (
  name text COLLATE "C" PRIMARY KEY,
  -- Of a tenant's schema; the others, such as public, are of the whole database.
  project text,
  environment text,
  tenant_id uuid,
  provisioned_at timestamptz,
  -- Of the last try to bring it up to date, where that failed.
  failed_at timestamptz,
  failure text,
  CHECK (num_nulls(project, environment, tenant_id) IN (0, 3)),
  -- A tenant whose schema is there is not deleted.
  FOREIGN KEY (project, environment, tenant_id) REFERENCES dominus.tenants
);
CREATE UNIQUE INDEX ddl_schemas_tenant ON dominus.ddl_schemas (project, environment, tenant_id);

-- Users' statements run under the data role, which sees nothing of this. Who makes a change writes here, as the owner,
-- what it is to be, and hands the key of the ticket to the transaction of the change, which settles it by the functions
-- below. Sessions may call these, too, and know no key: it is random, used once, and only its digest is here.
CREATE TABLE dominus.ddl_tickets (
  digest bytea PRIMARY KEY,
  schema text COLLATE "C" NOT NULL,
  -- Whose change it is: another project's tenant's schema is not locked by it, even where it was made in between.
  project text NOT NULL,
  environment text NOT NULL,
  -- Who may use the schema, where it is to be made.
  data_role text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ddl_tickets_created_at ON dominus.ddl_tickets (created_at);

CREATE TABLE dominus.ddl_migrations (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  project text NOT NULL,
  environment text NOT NULL,
  -- Of one schema, or of all tenants of a category: then its SQL has the place holder "{schema}".
  schema text COLLATE "C" REFERENCES dominus.ddl_schemas ON DELETE CASCADE,
  category_id uuid,
  version text COLLATE "C" NOT NULL,
  name text NOT NULL,
  operation text NOT NULL,
  up text[] NOT NULL,
  -- NULL: it cannot be rolled back.
  down text[],
  checksum text NOT NULL,
  author text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  -- Of a category: new tenants do not get it, those that have it keep it.
  deleted_at timestamptz,
  -- Not NULL while it is not settled: it goes with its ticket.
  ticket bytea REFERENCES dominus.ddl_tickets ON DELETE CASCADE,
  CHECK ((schema IS NULL) <> (category_id IS NULL)),
  FOREIGN KEY (project, environment, category_id) REFERENCES dominus.tenant_categories
);
CREATE UNIQUE INDEX ddl_migrations_schema ON dominus.ddl_migrations (schema, project, environment, version)
  WHERE schema IS NOT NULL;
CREATE UNIQUE INDEX ddl_migrations_category ON dominus.ddl_migrations (project, environment, category_id, version)
  WHERE category_id IS NOT NULL;
CREATE INDEX ddl_migrations_ticket ON dominus.ddl_migrations (ticket) WHERE ticket IS NOT NULL;

-- Each way that a migration went in a schema, up or down. The last one that is settled says whether it is applied.
CREATE SEQUENCE dominus.ddl_settled;
CREATE TABLE dominus.ddl_steps (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  schema text COLLATE "C" NOT NULL REFERENCES dominus.ddl_schemas ON DELETE CASCADE,
  migration_id uuid NOT NULL REFERENCES dominus.ddl_migrations ON DELETE CASCADE,
  is_up boolean NOT NULL,
  author text NOT NULL,
  ticket bytea REFERENCES dominus.ddl_tickets ON DELETE CASCADE,
  settled bigint,
  settled_at timestamptz
);
CREATE INDEX ddl_steps_schema ON dominus.ddl_steps (schema, migration_id, settled);
CREATE INDEX ddl_steps_migration ON dominus.ddl_steps (migration_id);
CREATE INDEX ddl_steps_ticket ON dominus.ddl_steps (ticket) WHERE ticket IS NOT NULL;

-- Project and environment of a tenant's schema; NULL: it is of the whole database, as `public` is.
CREATE FUNCTION dominus_api.schema_place(schema_name text)
RETURNS text[]
LANGUAGE sql
STABLE
SECURITY DEFINER
BEGIN ATOMIC
  SELECT ARRAY[s.project, s.environment]
  FROM dominus.ddl_schemas s
  WHERE s.name = schema_place.schema_name AND s.project IS NOT NULL;
END;

-- Locks the schema of a ticket until the end of the transaction. False: there is no such ticket or schema, or another
-- has it.
CREATE FUNCTION dominus_api.begin_ddl(key bytea, waits boolean)
RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  ticket dominus.ddl_tickets;
BEGIN
  SELECT t.* INTO ticket FROM dominus.ddl_tickets t WHERE t.digest = sha256(begin_ddl.key);
  -- NO KEY: the steps of the change are written by another transaction, and refer to this row.
  IF begin_ddl.waits THEN
    PERFORM
    FROM dominus.ddl_schemas s
    WHERE s.name = ticket.schema
      AND (s.project IS NULL OR (s.project, s.environment) = (ticket.project, ticket.environment))
    FOR NO KEY UPDATE;
  ELSE
    PERFORM
    FROM dominus.ddl_schemas s
    WHERE s.name = ticket.schema
      AND (s.project IS NULL OR (s.project, s.environment) = (ticket.project, ticket.environment))
    FOR NO KEY UPDATE SKIP LOCKED;
  END IF;
  RETURN FOUND;
END
$$;

-- Makes the schema of a ticket, for the data role, which may make none.
CREATE FUNCTION dominus_api.make_schema(key bytea)
RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  ticket dominus.ddl_tickets;
BEGIN
  SELECT t.* INTO ticket FROM dominus.ddl_tickets t WHERE t.digest = sha256(make_schema.key);
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  EXECUTE format('CREATE SCHEMA %I', ticket.schema);
  EXECUTE format('GRANT USAGE, CREATE ON SCHEMA %I TO %I', ticket.schema, ticket.data_role);
  UPDATE dominus.ddl_schemas s SET provisioned_at = now() WHERE s.name = ticket.schema;
  RETURN true;
END
$$;

-- What a ticket stands for was done, by the transaction that says so.
CREATE FUNCTION dominus_api.settle_ddl(key bytea)
RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  settling bytea := sha256(settle_ddl.key);
  place text := (SELECT t.schema FROM dominus.ddl_tickets t WHERE t.digest = settling);
BEGIN
  UPDATE dominus.ddl_steps s
    SET settled = nextval('dominus.ddl_settled'), settled_at = clock_timestamp(), ticket = NULL
    WHERE s.ticket = settling;
  UPDATE dominus.ddl_migrations m SET ticket = NULL WHERE m.ticket = settling;
  UPDATE dominus.ddl_schemas s SET failed_at = NULL, failure = NULL WHERE s.name = place AND s.failed_at IS NOT NULL;
  DELETE FROM dominus.ddl_tickets t WHERE t.digest = settling;
  RETURN FOUND;
END
$$;

REVOKE ALL ON FUNCTION dominus_api.schema_place(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION dominus_api.begin_ddl(bytea, boolean) FROM PUBLIC;
REVOKE ALL ON FUNCTION dominus_api.make_schema(bytea) FROM PUBLIC;
REVOKE ALL ON FUNCTION dominus_api.settle_ddl(bytea) FROM PUBLIC;
