-- Logins: sessions and their refresh tokens, links of mails, failed tries, what users say of themselves. Of a token only
-- its SHA-256 is kept. A session is a family of refresh tokens: each is used once, and gives the next.

CREATE TABLE dominus.portal_sessions (
  project text NOT NULL,
  environment text NOT NULL,
  id uuid NOT NULL,
  subject_type text NOT NULL CHECK (subject_type IN ('user', 'client')),
  subject_id uuid NOT NULL,
  tenant_id uuid,
  created_at timestamptz NOT NULL DEFAULT now(),
  last_used_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL,
  revoked_at timestamptz,
  PRIMARY KEY (project, environment, id)
);
CREATE INDEX portal_sessions_subject ON dominus.portal_sessions (project, environment, subject_id);
CREATE INDEX portal_sessions_revoked ON dominus.portal_sessions (revoked_at) WHERE revoked_at IS NOT NULL;
CREATE INDEX portal_sessions_expired ON dominus.portal_sessions (expires_at);

CREATE TABLE dominus.refresh_tokens (
  project text NOT NULL,
  environment text NOT NULL,
  digest bytea NOT NULL,
  session_id uuid NOT NULL,
  used_at timestamptz,
  PRIMARY KEY (project, environment, digest),
  FOREIGN KEY (project, environment, session_id) REFERENCES dominus.portal_sessions ON DELETE CASCADE
);
CREATE INDEX refresh_tokens_session ON dominus.refresh_tokens (project, environment, session_id);

-- `notice`: a mail without a link, which counts among those that an address may get. They stay when their user goes: they
-- count, and open nothing any more.
CREATE TABLE dominus.one_time_tokens (
  project text NOT NULL,
  environment text NOT NULL,
  digest bytea NOT NULL,
  id uuid NOT NULL DEFAULT gen_random_uuid(),
  kind text NOT NULL CHECK (kind IN ('reset', 'verification', 'invitation', 'notice')),
  user_id uuid,
  email text NOT NULL,
  tenant_id uuid,
  role_ids uuid[] NOT NULL DEFAULT '{}',
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL,
  used_at timestamptz,
  PRIMARY KEY (project, environment, digest),
  FOREIGN KEY (project, environment, tenant_id) REFERENCES dominus.tenants ON DELETE CASCADE
);
CREATE INDEX one_time_tokens_email ON dominus.one_time_tokens (project, environment, email, created_at);
CREATE INDEX one_time_tokens_user ON dominus.one_time_tokens (project, environment, user_id);
CREATE INDEX one_time_tokens_expired ON dominus.one_time_tokens (expires_at);

-- `name` is a keyed hash of what was typed: people type passwords there.
CREATE TABLE dominus.login_failures (
  project text NOT NULL,
  environment text NOT NULL,
  name bytea NOT NULL,
  failures integer NOT NULL,
  last_at timestamptz NOT NULL,
  locked_until timestamptz,
  PRIMARY KEY (project, environment, name)
);
CREATE INDEX login_failures_last ON dominus.login_failures (last_at);

CREATE TABLE dominus.user_profiles (
  project text NOT NULL,
  environment text NOT NULL,
  user_id uuid NOT NULL,
  display_name text,
  avatar_url text,
  bio text,
  phone text,
  extra json NOT NULL DEFAULT '{}',
  PRIMARY KEY (project, environment, user_id),
  FOREIGN KEY (project, environment, user_id) REFERENCES dominus.users ON DELETE CASCADE
);

CREATE TABLE dominus.user_preferences (
  project text NOT NULL,
  environment text NOT NULL,
  user_id uuid NOT NULL,
  theme text NOT NULL DEFAULT 'system',
  language text NOT NULL DEFAULT 'en',
  timezone text NOT NULL DEFAULT 'UTC',
  sidebar_collapsed boolean NOT NULL DEFAULT false,
  notifications_enabled boolean NOT NULL DEFAULT true,
  email_notifications boolean NOT NULL DEFAULT true,
  extra json NOT NULL DEFAULT '{}',
  PRIMARY KEY (project, environment, user_id),
  FOREIGN KEY (project, environment, user_id) REFERENCES dominus.users ON DELETE CASCADE
);

-- Users who registered and wait for the link that shows their address to be their own: it makes them active.
CREATE TABLE dominus.user_registrations (
  project text NOT NULL,
  environment text NOT NULL,
  user_id uuid NOT NULL,
  PRIMARY KEY (project, environment, user_id),
  FOREIGN KEY (project, environment, user_id) REFERENCES dominus.users ON DELETE CASCADE
);

-- Every replica learns of the end of a session, whoever ended it.
CREATE FUNCTION dominus.tell_revoked() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM pg_notify('dominus_revoked', NEW.id::text);
  RETURN NULL;
END
$$;
CREATE TRIGGER tell_revoked AFTER UPDATE OF revoked_at ON dominus.portal_sessions
FOR EACH ROW WHEN (OLD.revoked_at IS NULL AND NEW.revoked_at IS NOT NULL)
EXECUTE FUNCTION dominus.tell_revoked();

-- Who may not log in any more is logged out, whatever statement said so; likewise with another password, but for the
-- session that changed it.
CREATE FUNCTION dominus.end_sessions() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  UPDATE dominus.portal_sessions
  SET revoked_at = now()
  WHERE project = OLD.project AND environment = OLD.environment AND subject_id = OLD.id AND revoked_at IS NULL;
  RETURN NULL;
END
$$;
CREATE TRIGGER end_sessions AFTER UPDATE OF status ON dominus.users
FOR EACH ROW WHEN (NEW.status <> 'active') EXECUTE FUNCTION dominus.end_sessions();
CREATE TRIGGER end_sessions_of_deleted AFTER DELETE ON dominus.users
FOR EACH ROW EXECUTE FUNCTION dominus.end_sessions();
CREATE TRIGGER end_sessions AFTER UPDATE OF status ON dominus.clients
FOR EACH ROW WHEN (NEW.status <> 'active') EXECUTE FUNCTION dominus.end_sessions();
CREATE TRIGGER end_sessions_of_deleted AFTER DELETE ON dominus.clients
FOR EACH ROW EXECUTE FUNCTION dominus.end_sessions();

CREATE FUNCTION dominus.end_other_sessions() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  UPDATE dominus.portal_sessions
  SET revoked_at = now()
  WHERE project = NEW.project AND environment = NEW.environment AND subject_id = NEW.user_id AND revoked_at IS NULL
    AND id::text <> coalesce(current_setting('dominus.keep_session', true), '');
  RETURN NULL;
END
$$;
CREATE TRIGGER end_other_sessions AFTER UPDATE OF digest ON dominus.user_passwords
FOR EACH ROW EXECUTE FUNCTION dominus.end_other_sessions();
