-- Roles that torture.sql refers to. Roles belong to the cluster: run this on both servers. May be run again.
\set ON_ERROR_STOP 1
SELECT format('CREATE ROLE %I %s', role, attributes)
FROM (VALUES ('torture_owner', 'NOLOGIN'),
             ('torture_other', 'NOLOGIN'),
             ('torture_reader', 'LOGIN'),
             ('torture_writer', 'LOGIN NOINHERIT'),
             ('Torture "Role" $1 äöü', 'NOLOGIN')) AS wanted (role, attributes)
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) \gexec
SET client_min_messages = warning;
GRANT torture_reader TO torture_writer;
RESET client_min_messages;
