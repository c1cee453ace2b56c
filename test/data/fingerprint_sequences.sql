-- One line for each sequence, as in fingerprint.sql. No snapshot holds a sequence: it shows where it stands now.
SELECT format('SELECT %L, 1, last_value, is_called FROM %I.%I', format('sequence %I.%I', n.nspname, c.relname), n.nspname, c.relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'S' AND n.nspname !~ '^pg_' AND n.nspname <> 'pgcrane'
ORDER BY n.nspname, c.relname \gexec
