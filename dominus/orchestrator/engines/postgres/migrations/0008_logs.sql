-- Lines of programs. The id is a uuid7, made where the line was written: it holds the moment, so that a day is a range
-- of ids, and a line that is sent twice is the same row of the same partition. `arrived` is the transaction that stored
-- the line: who follows asks for what became visible between two snapshots, whatever order transactions end in.
CREATE TABLE dominus.logs (
  project text NOT NULL,
  environment text NOT NULL,
  id uuid NOT NULL,
  logged_at timestamptz NOT NULL,
  level smallint NOT NULL,
  category text NOT NULL,
  message text NOT NULL,
  context jsonb,
  file text,
  function text,
  line integer,
  principal text NOT NULL,
  arrived bigint NOT NULL DEFAULT (pg_catalog.pg_current_xact_id()::text::bigint),
  PRIMARY KEY (project, environment, id)
) PARTITION BY RANGE (id);

CREATE INDEX logs_arrived ON dominus.logs (arrived);
CREATE INDEX logs_text ON dominus.logs USING gin ((
  to_tsvector('pg_catalog.simple', message)
  || jsonb_to_tsvector('pg_catalog.simple', coalesce(context, '{}'), '["string", "numeric"]')
));
