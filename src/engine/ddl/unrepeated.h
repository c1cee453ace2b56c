/*
 * Captured commands that could not be repeated, until both sides agree about what they were about.
 *
 * Contract
 * - unrepeated_add() notes one in the applier's open transaction: object, command, reason; the text when it certainly
 * holds no password.
 * - unrepeated_left() looks for the objects on both sides and gives a line for each that only one side has, or of a
 * kind that is not looked for (a foreign server, a security label): such a one is left until somebody accepts it. What
 * is in an object that both have, the comparison of the catalogues sees to. Nothing is ever removed: agreement is
 * judged each time.
 * - Comments, grants and default privileges are not noted: the comparison tells them, and no promote waits for them.
 * - Tables, triggers, rules, policies are not here: the comparison of the catalogues and the promote see to them.
 */
#pragma once

#include "engine/ddl/replay.h"

NODISCARD bool unrepeated_add(DbConn *dest, const DdlResult *result, Error *err);
/* "view shop.v: CREATE VIEW was not repeated: it was run inside a function" */
NODISCARD bool unrepeated_left(DbConn *source, DbConn *dest, Arena *arena, StringVec *ret_left, Error *err);
