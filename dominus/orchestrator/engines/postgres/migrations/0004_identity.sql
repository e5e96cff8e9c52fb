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

CREATE TABLE dominus.tenant_categories (
  project text NOT NULL,
  environment text NOT NULL,
  id uuid NOT NULL DEFAULT gen_random_uuid(),
  name text NOT NULL,
  slug text COLLATE "C" NOT NULL,
  description text,
  color text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (project, environment, id),
  UNIQUE (project, environment, slug)
);

CREATE TABLE dominus.tenants (
  project text NOT NULL,
  environment text NOT NULL,
  id uuid NOT NULL DEFAULT gen_random_uuid(),
  name text NOT NULL,
  slug text COLLATE "C" NOT NULL,
  category_id uuid,
  display_name text,
  description text,
  status text NOT NULL DEFAULT 'active',
  registration_open boolean NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (project, environment, id),
  UNIQUE (project, environment, slug),
  FOREIGN KEY (project, environment, category_id) REFERENCES dominus.tenant_categories
);
CREATE INDEX tenants_category_id ON dominus.tenants (project, environment, category_id);

CREATE TABLE dominus.subtypes (
  project text NOT NULL,
  environment text NOT NULL,
  id uuid NOT NULL DEFAULT gen_random_uuid(),
  name text NOT NULL,
  slug text COLLATE "C" NOT NULL,
  description text,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (project, environment, id),
  UNIQUE (project, environment, slug)
);

CREATE TABLE dominus.pages (
  project text NOT NULL,
  environment text NOT NULL,
  id uuid NOT NULL DEFAULT gen_random_uuid(),
  path text COLLATE "C" NOT NULL,
  name text NOT NULL,
  description text,
  is_active boolean NOT NULL,
  show_in_nav boolean NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (project, environment, id),
  UNIQUE (project, environment, path)
);

-- Links: each pair once, gone with either of its ends.

CREATE TABLE dominus.role_scopes (
  project text NOT NULL,
  environment text NOT NULL,
  role_id uuid NOT NULL,
  scope_id uuid NOT NULL,
  PRIMARY KEY (project, environment, role_id, scope_id),
  FOREIGN KEY (project, environment, role_id) REFERENCES dominus.roles ON DELETE CASCADE,
  FOREIGN KEY (project, environment, scope_id) REFERENCES dominus.scopes ON DELETE CASCADE
);
CREATE INDEX role_scopes_scope_id ON dominus.role_scopes (project, environment, scope_id);

CREATE TABLE dominus.role_tenants (
  project text NOT NULL,
  environment text NOT NULL,
  role_id uuid NOT NULL,
  tenant_id uuid NOT NULL,
  PRIMARY KEY (project, environment, role_id, tenant_id),
  FOREIGN KEY (project, environment, role_id) REFERENCES dominus.roles ON DELETE CASCADE,
  FOREIGN KEY (project, environment, tenant_id) REFERENCES dominus.tenants ON DELETE CASCADE
);
CREATE INDEX role_tenants_tenant_id ON dominus.role_tenants (project, environment, tenant_id);

CREATE TABLE dominus.role_categories (
  project text NOT NULL,
  environment text NOT NULL,
  role_id uuid NOT NULL,
  category_id uuid NOT NULL,
  PRIMARY KEY (project, environment, role_id, category_id),
  FOREIGN KEY (project, environment, role_id) REFERENCES dominus.roles ON DELETE CASCADE,
  FOREIGN KEY (project, environment, category_id) REFERENCES dominus.tenant_categories ON DELETE CASCADE
);
CREATE INDEX role_categories_category_id ON dominus.role_categories (project, environment, category_id);

CREATE TABLE dominus.role_subtypes (
  project text NOT NULL,
  environment text NOT NULL,
  role_id uuid NOT NULL,
  subtype_id uuid NOT NULL,
  PRIMARY KEY (project, environment, role_id, subtype_id),
  FOREIGN KEY (project, environment, role_id) REFERENCES dominus.roles ON DELETE CASCADE,
  FOREIGN KEY (project, environment, subtype_id) REFERENCES dominus.subtypes ON DELETE CASCADE
);
CREATE INDEX role_subtypes_subtype_id ON dominus.role_subtypes (project, environment, subtype_id);

CREATE TABLE dominus.scope_tenants (
  project text NOT NULL,
  environment text NOT NULL,
  scope_id uuid NOT NULL,
  tenant_id uuid NOT NULL,
  PRIMARY KEY (project, environment, scope_id, tenant_id),
  FOREIGN KEY (project, environment, scope_id) REFERENCES dominus.scopes ON DELETE CASCADE,
  FOREIGN KEY (project, environment, tenant_id) REFERENCES dominus.tenants ON DELETE CASCADE
);
CREATE INDEX scope_tenants_tenant_id ON dominus.scope_tenants (project, environment, tenant_id);

CREATE TABLE dominus.scope_categories (
  project text NOT NULL,
  environment text NOT NULL,
  scope_id uuid NOT NULL,
  category_id uuid NOT NULL,
  PRIMARY KEY (project, environment, scope_id, category_id),
  FOREIGN KEY (project, environment, scope_id) REFERENCES dominus.scopes ON DELETE CASCADE,
  FOREIGN KEY (project, environment, category_id) REFERENCES dominus.tenant_categories ON DELETE CASCADE
);
CREATE INDEX scope_categories_category_id ON dominus.scope_categories (project, environment, category_id);

CREATE TABLE dominus.subtype_tenants (
  project text NOT NULL,
  environment text NOT NULL,
  subtype_id uuid NOT NULL,
  tenant_id uuid NOT NULL,
  PRIMARY KEY (project, environment, subtype_id, tenant_id),
  FOREIGN KEY (project, environment, subtype_id) REFERENCES dominus.subtypes ON DELETE CASCADE,
  FOREIGN KEY (project, environment, tenant_id) REFERENCES dominus.tenants ON DELETE CASCADE
);
CREATE INDEX subtype_tenants_tenant_id ON dominus.subtype_tenants (project, environment, tenant_id);

CREATE TABLE dominus.subtype_categories (
  project text NOT NULL,
  environment text NOT NULL,
  subtype_id uuid NOT NULL,
  category_id uuid NOT NULL,
  PRIMARY KEY (project, environment, subtype_id, category_id),
  FOREIGN KEY (project, environment, subtype_id) REFERENCES dominus.subtypes ON DELETE CASCADE,
  FOREIGN KEY (project, environment, category_id) REFERENCES dominus.tenant_categories ON DELETE CASCADE
);
CREATE INDEX subtype_categories_category_id ON dominus.subtype_categories (project, environment, category_id);

CREATE TABLE dominus.subtype_scopes (
  project text NOT NULL,
  environment text NOT NULL,
  subtype_id uuid NOT NULL,
  scope_id uuid NOT NULL,
  PRIMARY KEY (project, environment, subtype_id, scope_id),
  FOREIGN KEY (project, environment, subtype_id) REFERENCES dominus.subtypes ON DELETE CASCADE,
  FOREIGN KEY (project, environment, scope_id) REFERENCES dominus.scopes ON DELETE CASCADE
);
CREATE INDEX subtype_scopes_scope_id ON dominus.subtype_scopes (project, environment, scope_id);

CREATE TABLE dominus.page_tenants (
  project text NOT NULL,
  environment text NOT NULL,
  page_id uuid NOT NULL,
  tenant_id uuid NOT NULL,
  PRIMARY KEY (project, environment, page_id, tenant_id),
  FOREIGN KEY (project, environment, page_id) REFERENCES dominus.pages ON DELETE CASCADE,
  FOREIGN KEY (project, environment, tenant_id) REFERENCES dominus.tenants ON DELETE CASCADE
);
CREATE INDEX page_tenants_tenant_id ON dominus.page_tenants (project, environment, tenant_id);

CREATE TABLE dominus.page_scopes (
  project text NOT NULL,
  environment text NOT NULL,
  page_id uuid NOT NULL,
  scope_id uuid NOT NULL,
  PRIMARY KEY (project, environment, page_id, scope_id),
  FOREIGN KEY (project, environment, page_id) REFERENCES dominus.pages ON DELETE CASCADE,
  FOREIGN KEY (project, environment, scope_id) REFERENCES dominus.scopes ON DELETE CASCADE
);
CREATE INDEX page_scopes_scope_id ON dominus.page_scopes (project, environment, scope_id);

CREATE TABLE dominus.page_categories (
  project text NOT NULL,
  environment text NOT NULL,
  page_id uuid NOT NULL,
  category_id uuid NOT NULL,
  PRIMARY KEY (project, environment, page_id, category_id),
  FOREIGN KEY (project, environment, page_id) REFERENCES dominus.pages ON DELETE CASCADE,
  FOREIGN KEY (project, environment, category_id) REFERENCES dominus.tenant_categories ON DELETE CASCADE
);
CREATE INDEX page_categories_category_id ON dominus.page_categories (project, environment, category_id);

CREATE TABLE dominus.page_excluded_scopes (
  project text NOT NULL,
  environment text NOT NULL,
  page_id uuid NOT NULL,
  scope_id uuid NOT NULL,
  PRIMARY KEY (project, environment, page_id, scope_id),
  FOREIGN KEY (project, environment, page_id) REFERENCES dominus.pages ON DELETE CASCADE,
  FOREIGN KEY (project, environment, scope_id) REFERENCES dominus.scopes ON DELETE CASCADE
);
CREATE INDEX page_excluded_scopes_scope_id ON dominus.page_excluded_scopes (project, environment, scope_id);

CREATE TABLE dominus.page_excluded_roles (
  project text NOT NULL,
  environment text NOT NULL,
  page_id uuid NOT NULL,
  role_id uuid NOT NULL,
  PRIMARY KEY (project, environment, page_id, role_id),
  FOREIGN KEY (project, environment, page_id) REFERENCES dominus.pages ON DELETE CASCADE,
  FOREIGN KEY (project, environment, role_id) REFERENCES dominus.roles ON DELETE CASCADE
);
CREATE INDEX page_excluded_roles_role_id ON dominus.page_excluded_roles (project, environment, role_id);
