-- One line for each thing that holds data: name, rows, and hashes that do not depend on the order of rows.
-- psql -XqAt -F ' ' -v ON_ERROR_STOP=1 -f fingerprint.sql; the same on two databases = the same text.
SET timezone = 'UTC';
SET extra_float_digits = 1;
SET row_security = off;
SELECT format('SELECT %L, count(*), coalesce(sum(hashtextextended((whole.*)::text, 0)), 0), '
              'coalesce(sum(hashtextextended((whole.*)::text, 1)), 0) FROM ONLY %I.%I AS whole',
              format('%I.%I', n.nspname, c.relname), n.nspname, c.relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm') AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'pgcrane')
ORDER BY n.nspname, c.relname \gexec
\ir fingerprint_sequences.sql
SELECT 'large object ' || loid, count(*), sum(hashtextextended(pageno || encode(data, 'hex'), 0)),
       sum(hashtextextended(pageno || encode(data, 'hex'), 1))
FROM pg_largeobject GROUP BY loid ORDER BY loid;
