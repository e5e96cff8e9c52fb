-- Mails that were accepted, and the templates that they are made from. Project and environment partition both.

CREATE TABLE dominus.mail_templates (
  project text NOT NULL,
  environment text NOT NULL,
  alias text COLLATE "C" NOT NULL,
  version integer NOT NULL CHECK (version > 0),
  PRIMARY KEY (project, environment, alias)
);

CREATE TABLE dominus.mail_template_versions (
  project text NOT NULL,
  environment text NOT NULL,
  alias text COLLATE "C" NOT NULL,
  version integer NOT NULL CHECK (version > 0),
  subject text NOT NULL,
  html text,
  text text,
  comment text,
  created_at timestamptz NOT NULL DEFAULT now(),
  created_by text NOT NULL,
  PRIMARY KEY (project, environment, alias, version),
  FOREIGN KEY (project, environment, alias) REFERENCES dominus.mail_templates ON DELETE CASCADE,
  CHECK (html IS NOT NULL OR text IS NOT NULL)
);

-- queued -> sending -> sent, or dead, or queued again. `uncertain`: a try ended without an answer; it is tried again.
-- `kept`: accepted while no relay was set up.
CREATE TABLE dominus.mails (
  id uuid PRIMARY KEY,
  project text NOT NULL,
  environment text NOT NULL,
  status text NOT NULL CHECK (status IN ('queued', 'sending', 'uncertain', 'sent', 'dead', 'kept')),
  key text,
  key_fingerprint bytea,
  template_alias text NOT NULL,
  template_version integer NOT NULL,
  model json NOT NULL,
  sender text NOT NULL,
  recipients text NOT NULL,
  reply_to text,
  tag text,
  subject text NOT NULL,
  html text,
  text text,
  pending text[] NOT NULL,
  refused jsonb NOT NULL DEFAULT '{}',
  attempts integer NOT NULL DEFAULT 0,
  may_be_duplicate boolean NOT NULL DEFAULT false,
  has_accepted boolean NOT NULL DEFAULT false,
  error text,
  request_id text NOT NULL,
  submitted_by text NOT NULL,
  submitted_at timestamptz NOT NULL DEFAULT now(),
  give_up_at timestamptz,
  due_at timestamptz NOT NULL DEFAULT now(),
  sending_since timestamptz,
  finished_at timestamptz
);
CREATE UNIQUE INDEX mails_key ON dominus.mails (project, environment, key) WHERE key IS NOT NULL;
CREATE INDEX mails_listed ON dominus.mails (project, environment, submitted_at DESC, id DESC);
CREATE INDEX mails_due ON dominus.mails (due_at) WHERE status IN ('queued', 'uncertain');
CREATE INDEX mails_sending ON dominus.mails (sending_since) WHERE status = 'sending';
CREATE INDEX mails_finished ON dominus.mails (finished_at) WHERE status IN ('sent', 'dead', 'kept');
