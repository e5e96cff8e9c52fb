-- Files: what is known of them. Their bytes lie in the object store, under ids that nobody chooses.
-- Every key begins with project and environment, so that no statement leads from one to another.

CREATE TABLE dominus.files (
  project text NOT NULL,
  environment text NOT NULL,
  id uuid NOT NULL DEFAULT gen_random_uuid(),
  category text COLLATE "C" NOT NULL,
  path text COLLATE "C" NOT NULL,
  filename text NOT NULL,
  content_id uuid NOT NULL,
  version integer NOT NULL DEFAULT 1,
  size bigint NOT NULL,
  sha256 text NOT NULL,
  content_type text NOT NULL,
  tags jsonb NOT NULL DEFAULT '{}',
  description text,
  is_compliance boolean NOT NULL DEFAULT false,
  owner_user_id text,
  retained_until timestamptz,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  created_by text NOT NULL,
  PRIMARY KEY (project, environment, id),
  UNIQUE (project, environment, category, path)
);
CREATE INDEX files_path ON dominus.files (project, environment, path);

-- A content is written once and never changed. `keep_until` is null while a file has it; anything else is an upload in
-- progress, or what an interrupted or replaced one left, and may be collected after that time.
CREATE TABLE dominus.file_contents (
  project text NOT NULL,
  environment text NOT NULL,
  id uuid NOT NULL DEFAULT gen_random_uuid(),
  owner text NOT NULL,
  facts jsonb,  -- of an upload in parts: what the file will be
  part_bytes integer NOT NULL,
  file_id uuid,
  version integer,
  keep_until timestamptz,
  is_doomed boolean NOT NULL DEFAULT false,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (project, environment, id)
);
CREATE INDEX file_contents_keep_until ON dominus.file_contents (keep_until) WHERE keep_until IS NOT NULL;
CREATE INDEX file_contents_file ON dominus.file_contents (project, environment, file_id);

CREATE TABLE dominus.file_parts (
  project text NOT NULL,
  environment text NOT NULL,
  content_id uuid NOT NULL,
  number integer NOT NULL,
  size integer NOT NULL,
  sha256 text NOT NULL,
  PRIMARY KEY (project, environment, content_id, number),
  FOREIGN KEY (project, environment, content_id) REFERENCES dominus.file_contents ON DELETE CASCADE
);

CREATE TABLE dominus.file_folders (
  project text NOT NULL,
  environment text NOT NULL,
  id uuid NOT NULL DEFAULT gen_random_uuid(),
  category text COLLATE "C" NOT NULL,
  path text COLLATE "C" NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (project, environment, id),
  UNIQUE (project, environment, category, path)
);

-- The last word on retention, whichever statement forgets to ask.
CREATE FUNCTION dominus.keep_retained_file() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF TG_OP = 'TRUNCATE' THEN
    IF EXISTS (SELECT FROM dominus.files WHERE retained_until > now()) THEN
      RAISE EXCEPTION 'some files are retained' USING ERRCODE = 'DF001';
    END IF;
    RETURN NULL;
  END IF;
  -- What may change: where it lies within its category, its tags and description, and a later end.
  IF OLD.retained_until > now() AND (
    TG_OP = 'DELETE'
    OR (NEW.project, NEW.environment, NEW.id, NEW.category, NEW.content_id, NEW.version, NEW.size, NEW.sha256)
      <> (OLD.project, OLD.environment, OLD.id, OLD.category, OLD.content_id, OLD.version, OLD.size, OLD.sha256)
    OR NEW.is_compliance IS DISTINCT FROM OLD.is_compliance
    OR NEW.owner_user_id IS DISTINCT FROM OLD.owner_user_id
    OR NEW.retained_until IS NULL
    OR NEW.retained_until < OLD.retained_until
  ) THEN
    RAISE EXCEPTION 'file % is retained until %', OLD.id, OLD.retained_until USING ERRCODE = 'DF001';
  END IF;
  IF TG_OP = 'DELETE' THEN
    RETURN OLD;
  END IF;
  RETURN NEW;
END
$$;

CREATE TRIGGER keep_retained BEFORE UPDATE OR DELETE ON dominus.files
FOR EACH ROW WHEN (OLD.retained_until IS NOT NULL) EXECUTE FUNCTION dominus.keep_retained_file();

CREATE TRIGGER keep_retained_all BEFORE TRUNCATE ON dominus.files
FOR EACH STATEMENT EXECUTE FUNCTION dominus.keep_retained_file();
