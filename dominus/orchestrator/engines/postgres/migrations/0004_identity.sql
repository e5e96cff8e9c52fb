-- Who may do what. Every key begins with project and environment, so that no link leads from one to another.
-- Names sort by their bytes, wherever the server runs.

CREATE TABLE dominus.scopes (
  project text NOT NULL,
  environment text NOT NULL,
  id uuid NOT NULL DEFAULT gen_random_uuid(),
  slug text COLLATE "C" NOT NULL,
  display_name text NOT NULL,
  description text,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (project, environment, id),
  UNIQUE (project, environment, slug)
);

CREATE TABLE dominus.roles (
  project text NOT NULL,
  environment text NOT NULL,
  id uuid NOT NULL DEFAULT gen_random_uuid(),
  name text COLLATE "C" NOT NULL,
  description text,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (project, environment, id),
  UNIQUE (project, environment, name)
);

CREATE TABLE dominus.role_scopes (
  project text NOT NULL,
  environment text NOT NULL,
  role_id uuid NOT NULL,
  scope_id uuid NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (project, environment, role_id, scope_id),
  FOREIGN KEY (project, environment, role_id) REFERENCES dominus.roles ON DELETE CASCADE,
  FOREIGN KEY (project, environment, scope_id) REFERENCES dominus.scopes ON DELETE CASCADE
);
CREATE INDEX role_scopes_scope_id ON dominus.role_scopes (project, environment, scope_id);
