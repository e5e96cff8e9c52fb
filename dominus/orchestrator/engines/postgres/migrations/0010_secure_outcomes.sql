-- How an access ended: `ok`, or the code of the error with which it was refused or failed. Part of what is hashed.
ALTER TABLE dominus.audit ADD COLUMN outcome text NOT NULL DEFAULT 'ok';
ALTER TABLE dominus.audit ALTER COLUMN outcome DROP DEFAULT;
ALTER TABLE dominus.audit ADD CONSTRAINT counts_from_one CHECK (number > 0);

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
REVOKE ALL ON FUNCTION dominus_secure.require_clean() FROM PUBLIC;
