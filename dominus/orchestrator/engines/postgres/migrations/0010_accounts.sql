-- Who logs in: users and clients, and the items of their navigation. As in 0004, every key begins with project and
-- environment.

-- `lower` knows ASCII under "C": names that differ in its case alone are one name, on every server.
CREATE TABLE dominus.users (
  project text NOT NULL,
  environment text NOT NULL,
  id uuid NOT NULL DEFAULT gen_random_uuid(),
  username text COLLATE "C" NOT NULL,
  email text COLLATE "C" NOT NULL,
  status text NOT NULL DEFAULT 'active',
  email_verified boolean NOT NULL DEFAULT false,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (project, environment, id)
);
CREATE UNIQUE INDEX users_username ON dominus.users (project, environment, lower(username));
CREATE UNIQUE INDEX users_email ON dominus.users (project, environment, lower(email));
CREATE INDEX users_created_at ON dominus.users (project, environment, created_at, id);

-- Another address is not the one that was verified.
CREATE FUNCTION dominus.email_is_unverified()
RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
  NEW.email_verified := false;
  RETURN NEW;
END
$$;
CREATE TRIGGER email_changed BEFORE UPDATE OF email ON dominus.users
  FOR EACH ROW WHEN (lower(NEW.email) <> lower(OLD.email)) EXECUTE FUNCTION dominus.email_is_unverified();

-- Of a bcrypt hash the salt, with cost, and a keyed digest of the whole: without the key it verifies nothing.
CREATE TABLE dominus.user_passwords (
  project text NOT NULL,
  environment text NOT NULL,
  user_id uuid NOT NULL,
  salt text NOT NULL,
  digest bytea NOT NULL,
  changed_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (project, environment, user_id),
  FOREIGN KEY (project, environment, user_id) REFERENCES dominus.users ON DELETE CASCADE
);

CREATE TABLE dominus.clients (
  project text NOT NULL,
  environment text NOT NULL,
  id uuid NOT NULL DEFAULT gen_random_uuid(),
  label text COLLATE "C" NOT NULL,
  description text,
  status text NOT NULL DEFAULT 'active',
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (project, environment, id)
);
CREATE INDEX clients_label ON dominus.clients (project, environment, label, id);

-- Found by a keyed digest. A client has one without an end, and those that a newer one replaces for a while.
CREATE TABLE dominus.client_psks (
  digest bytea PRIMARY KEY,
  project text NOT NULL,
  environment text NOT NULL,
  client_id uuid NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz,
  FOREIGN KEY (project, environment, client_id) REFERENCES dominus.clients ON DELETE CASCADE
);
CREATE INDEX client_psks_client_id ON dominus.client_psks (project, environment, client_id);

CREATE TABLE dominus.nav_items (
  project text NOT NULL,
  environment text NOT NULL,
  id uuid NOT NULL DEFAULT gen_random_uuid(),
  title text COLLATE "C" NOT NULL,
  icon text,
  description text,
  page_id uuid,
  parent_id uuid,
  item_type text NOT NULL,
  is_active boolean NOT NULL,
  sort_order integer NOT NULL,
  is_expanded_default boolean NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (project, environment, id),
  FOREIGN KEY (project, environment, page_id) REFERENCES dominus.pages,
  FOREIGN KEY (project, environment, parent_id) REFERENCES dominus.nav_items
);
CREATE INDEX nav_items_page_id ON dominus.nav_items (project, environment, page_id);
CREATE INDEX nav_items_parent_id ON dominus.nav_items (project, environment, parent_id);
CREATE INDEX nav_items_sort_order ON dominus.nav_items (project, environment, sort_order, id);

-- Links: each pair once, gone with either of its ends.

CREATE TABLE dominus.user_roles (
  project text NOT NULL,
  environment text NOT NULL,
  user_id uuid NOT NULL,
  role_id uuid NOT NULL,
  PRIMARY KEY (project, environment, user_id, role_id),
  FOREIGN KEY (project, environment, user_id) REFERENCES dominus.users ON DELETE CASCADE,
  FOREIGN KEY (project, environment, role_id) REFERENCES dominus.roles ON DELETE CASCADE
);
CREATE INDEX user_roles_role_id ON dominus.user_roles (project, environment, role_id);

CREATE TABLE dominus.user_scopes (
  project text NOT NULL,
  environment text NOT NULL,
  user_id uuid NOT NULL,
  scope_id uuid NOT NULL,
  PRIMARY KEY (project, environment, user_id, scope_id),
  FOREIGN KEY (project, environment, user_id) REFERENCES dominus.users ON DELETE CASCADE,
  FOREIGN KEY (project, environment, scope_id) REFERENCES dominus.scopes ON DELETE CASCADE
);
CREATE INDEX user_scopes_scope_id ON dominus.user_scopes (project, environment, scope_id);

CREATE TABLE dominus.user_tenants (
  project text NOT NULL,
  environment text NOT NULL,
  user_id uuid NOT NULL,
  tenant_id uuid NOT NULL,
  PRIMARY KEY (project, environment, user_id, tenant_id),
  FOREIGN KEY (project, environment, user_id) REFERENCES dominus.users ON DELETE CASCADE,
  FOREIGN KEY (project, environment, tenant_id) REFERENCES dominus.tenants ON DELETE CASCADE
);
CREATE INDEX user_tenants_tenant_id ON dominus.user_tenants (project, environment, tenant_id);

CREATE TABLE dominus.user_subtypes (
  project text NOT NULL,
  environment text NOT NULL,
  user_id uuid NOT NULL,
  subtype_id uuid NOT NULL,
  PRIMARY KEY (project, environment, user_id, subtype_id),
  FOREIGN KEY (project, environment, user_id) REFERENCES dominus.users ON DELETE CASCADE,
  FOREIGN KEY (project, environment, subtype_id) REFERENCES dominus.subtypes ON DELETE CASCADE
);
CREATE INDEX user_subtypes_subtype_id ON dominus.user_subtypes (project, environment, subtype_id);

CREATE TABLE dominus.client_tenants (
  project text NOT NULL,
  environment text NOT NULL,
  client_id uuid NOT NULL,
  tenant_id uuid NOT NULL,
  PRIMARY KEY (project, environment, client_id, tenant_id),
  FOREIGN KEY (project, environment, client_id) REFERENCES dominus.clients ON DELETE CASCADE,
  FOREIGN KEY (project, environment, tenant_id) REFERENCES dominus.tenants ON DELETE CASCADE
);
CREATE INDEX client_tenants_tenant_id ON dominus.client_tenants (project, environment, tenant_id);

CREATE TABLE dominus.client_roles (
  project text NOT NULL,
  environment text NOT NULL,
  client_id uuid NOT NULL,
  role_id uuid NOT NULL,
  PRIMARY KEY (project, environment, client_id, role_id),
  FOREIGN KEY (project, environment, client_id) REFERENCES dominus.clients ON DELETE CASCADE,
  FOREIGN KEY (project, environment, role_id) REFERENCES dominus.roles ON DELETE CASCADE
);
CREATE INDEX client_roles_role_id ON dominus.client_roles (project, environment, role_id);

CREATE TABLE dominus.client_scopes (
  project text NOT NULL,
  environment text NOT NULL,
  client_id uuid NOT NULL,
  scope_id uuid NOT NULL,
  PRIMARY KEY (project, environment, client_id, scope_id),
  FOREIGN KEY (project, environment, client_id) REFERENCES dominus.clients ON DELETE CASCADE,
  FOREIGN KEY (project, environment, scope_id) REFERENCES dominus.scopes ON DELETE CASCADE
);
CREATE INDEX client_scopes_scope_id ON dominus.client_scopes (project, environment, scope_id);

CREATE TABLE dominus.client_subtypes (
  project text NOT NULL,
  environment text NOT NULL,
  client_id uuid NOT NULL,
  subtype_id uuid NOT NULL,
  PRIMARY KEY (project, environment, client_id, subtype_id),
  FOREIGN KEY (project, environment, client_id) REFERENCES dominus.clients ON DELETE CASCADE,
  FOREIGN KEY (project, environment, subtype_id) REFERENCES dominus.subtypes ON DELETE CASCADE
);
CREATE INDEX client_subtypes_subtype_id ON dominus.client_subtypes (project, environment, subtype_id);

CREATE TABLE dominus.nav_tenants (
  project text NOT NULL,
  environment text NOT NULL,
  nav_id uuid NOT NULL,
  tenant_id uuid NOT NULL,
  PRIMARY KEY (project, environment, nav_id, tenant_id),
  FOREIGN KEY (project, environment, nav_id) REFERENCES dominus.nav_items ON DELETE CASCADE,
  FOREIGN KEY (project, environment, tenant_id) REFERENCES dominus.tenants ON DELETE CASCADE
);
CREATE INDEX nav_tenants_tenant_id ON dominus.nav_tenants (project, environment, tenant_id);

CREATE TABLE dominus.nav_scopes (
  project text NOT NULL,
  environment text NOT NULL,
  nav_id uuid NOT NULL,
  scope_id uuid NOT NULL,
  PRIMARY KEY (project, environment, nav_id, scope_id),
  FOREIGN KEY (project, environment, nav_id) REFERENCES dominus.nav_items ON DELETE CASCADE,
  FOREIGN KEY (project, environment, scope_id) REFERENCES dominus.scopes ON DELETE CASCADE
);
CREATE INDEX nav_scopes_scope_id ON dominus.nav_scopes (project, environment, scope_id);

CREATE TABLE dominus.nav_roles (
  project text NOT NULL,
  environment text NOT NULL,
  nav_id uuid NOT NULL,
  role_id uuid NOT NULL,
  PRIMARY KEY (project, environment, nav_id, role_id),
  FOREIGN KEY (project, environment, nav_id) REFERENCES dominus.nav_items ON DELETE CASCADE,
  FOREIGN KEY (project, environment, role_id) REFERENCES dominus.roles ON DELETE CASCADE
);
CREATE INDEX nav_roles_role_id ON dominus.nav_roles (project, environment, role_id);

CREATE TABLE dominus.nav_subtypes (
  project text NOT NULL,
  environment text NOT NULL,
  nav_id uuid NOT NULL,
  subtype_id uuid NOT NULL,
  PRIMARY KEY (project, environment, nav_id, subtype_id),
  FOREIGN KEY (project, environment, nav_id) REFERENCES dominus.nav_items ON DELETE CASCADE,
  FOREIGN KEY (project, environment, subtype_id) REFERENCES dominus.subtypes ON DELETE CASCADE
);
CREATE INDEX nav_subtypes_subtype_id ON dominus.nav_subtypes (project, environment, subtype_id);

CREATE TABLE dominus.nav_categories (
  project text NOT NULL,
  environment text NOT NULL,
  nav_id uuid NOT NULL,
  category_id uuid NOT NULL,
  PRIMARY KEY (project, environment, nav_id, category_id),
  FOREIGN KEY (project, environment, nav_id) REFERENCES dominus.nav_items ON DELETE CASCADE,
  FOREIGN KEY (project, environment, category_id) REFERENCES dominus.tenant_categories ON DELETE CASCADE
);
CREATE INDEX nav_categories_category_id ON dominus.nav_categories (project, environment, category_id);

-- Whatever decides about rights says so when it changes: what replicas remember of them ends at the commit.
CREATE FUNCTION dominus.rights_changed()
RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
  PERFORM pg_catalog.pg_notify('dominus_rights', '');
  RETURN NULL;
END
$$;
CREATE TRIGGER rights_changed AFTER UPDATE OR DELETE ON dominus.users
  FOR EACH STATEMENT EXECUTE FUNCTION dominus.rights_changed();
CREATE TRIGGER rights_changed AFTER UPDATE OR DELETE ON dominus.clients
  FOR EACH STATEMENT EXECUTE FUNCTION dominus.rights_changed();
CREATE TRIGGER rights_changed AFTER INSERT OR UPDATE OR DELETE ON dominus.client_psks
  FOR EACH STATEMENT EXECUTE FUNCTION dominus.rights_changed();
CREATE TRIGGER rights_changed AFTER UPDATE OR DELETE ON dominus.scopes
  FOR EACH STATEMENT EXECUTE FUNCTION dominus.rights_changed();
CREATE TRIGGER rights_changed AFTER UPDATE OR DELETE ON dominus.roles
  FOR EACH STATEMENT EXECUTE FUNCTION dominus.rights_changed();
CREATE TRIGGER rights_changed AFTER UPDATE OR DELETE ON dominus.subtypes
  FOR EACH STATEMENT EXECUTE FUNCTION dominus.rights_changed();
CREATE TRIGGER rights_changed AFTER UPDATE OR DELETE ON dominus.tenants
  FOR EACH STATEMENT EXECUTE FUNCTION dominus.rights_changed();
CREATE TRIGGER rights_changed AFTER UPDATE OR DELETE ON dominus.tenant_categories
  FOR EACH STATEMENT EXECUTE FUNCTION dominus.rights_changed();
CREATE TRIGGER rights_changed AFTER INSERT OR UPDATE OR DELETE ON dominus.role_scopes
  FOR EACH STATEMENT EXECUTE FUNCTION dominus.rights_changed();
CREATE TRIGGER rights_changed AFTER INSERT OR UPDATE OR DELETE ON dominus.role_tenants
  FOR EACH STATEMENT EXECUTE FUNCTION dominus.rights_changed();
CREATE TRIGGER rights_changed AFTER INSERT OR UPDATE OR DELETE ON dominus.role_categories
  FOR EACH STATEMENT EXECUTE FUNCTION dominus.rights_changed();
CREATE TRIGGER rights_changed AFTER INSERT OR UPDATE OR DELETE ON dominus.role_subtypes
  FOR EACH STATEMENT EXECUTE FUNCTION dominus.rights_changed();
CREATE TRIGGER rights_changed AFTER INSERT OR UPDATE OR DELETE ON dominus.scope_tenants
  FOR EACH STATEMENT EXECUTE FUNCTION dominus.rights_changed();
CREATE TRIGGER rights_changed AFTER INSERT OR UPDATE OR DELETE ON dominus.scope_categories
  FOR EACH STATEMENT EXECUTE FUNCTION dominus.rights_changed();
CREATE TRIGGER rights_changed AFTER INSERT OR UPDATE OR DELETE ON dominus.subtype_tenants
  FOR EACH STATEMENT EXECUTE FUNCTION dominus.rights_changed();
CREATE TRIGGER rights_changed AFTER INSERT OR UPDATE OR DELETE ON dominus.subtype_categories
  FOR EACH STATEMENT EXECUTE FUNCTION dominus.rights_changed();
CREATE TRIGGER rights_changed AFTER INSERT OR UPDATE OR DELETE ON dominus.subtype_scopes
  FOR EACH STATEMENT EXECUTE FUNCTION dominus.rights_changed();
CREATE TRIGGER rights_changed AFTER INSERT OR UPDATE OR DELETE ON dominus.user_roles
  FOR EACH STATEMENT EXECUTE FUNCTION dominus.rights_changed();
CREATE TRIGGER rights_changed AFTER INSERT OR UPDATE OR DELETE ON dominus.user_scopes
  FOR EACH STATEMENT EXECUTE FUNCTION dominus.rights_changed();
CREATE TRIGGER rights_changed AFTER INSERT OR UPDATE OR DELETE ON dominus.user_tenants
  FOR EACH STATEMENT EXECUTE FUNCTION dominus.rights_changed();
CREATE TRIGGER rights_changed AFTER INSERT OR UPDATE OR DELETE ON dominus.user_subtypes
  FOR EACH STATEMENT EXECUTE FUNCTION dominus.rights_changed();
CREATE TRIGGER rights_changed AFTER INSERT OR UPDATE OR DELETE ON dominus.client_tenants
  FOR EACH STATEMENT EXECUTE FUNCTION dominus.rights_changed();
CREATE TRIGGER rights_changed AFTER INSERT OR UPDATE OR DELETE ON dominus.client_roles
  FOR EACH STATEMENT EXECUTE FUNCTION dominus.rights_changed();
CREATE TRIGGER rights_changed AFTER INSERT OR UPDATE OR DELETE ON dominus.client_scopes
  FOR EACH STATEMENT EXECUTE FUNCTION dominus.rights_changed();
CREATE TRIGGER rights_changed AFTER INSERT OR UPDATE OR DELETE ON dominus.client_subtypes
  FOR EACH STATEMENT EXECUTE FUNCTION dominus.rights_changed();
