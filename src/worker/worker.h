/*
 * The worker: one process that does all the work of one migration, told by messages on descriptor 3 (wire/wire.h); or
 * what a whole instance needs once, before its databases are migrated (instance.c).
 *
 * Started as `pgcrane worker` by the command line, or by a session of the service; not for people. It waits for START,
 * and its last message is DONE or FAILED. STOP, SIGINT (Ctrl-C in a terminal reaches the whole process group) and
 * SIGTERM end it cleanly, and so does the end of file on descriptor 3. It returns the exit code of the process: 0 when
 * it said how the run ended, whichever way.
 */
#pragma once

int worker_main(int argc, char **argv);
