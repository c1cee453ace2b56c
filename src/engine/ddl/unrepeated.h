/*
 * Captured commands that could not be repeated, until both sides agree about what they were about.
 *
 * Contract
 * - unrepeated_add() notes one in the applier's open transaction: object, command, reason.
 * - unrepeated_left() compares the objects of both sides and gives a line for each that still differs, or that cannot
 * be compared (an operator, a grant): such a one is left until somebody accepts it. Nothing is ever removed: agreement
 * is judged each time.
 * - Tables, triggers, rules, policies are not here: the comparison of the catalogues and the promote see to them.
 */
#pragma once

#include "engine/ddl/replay.h"

NODISCARD bool unrepeated_add(DbConn *dest, const DdlResult *result, Error *err);
/* "view shop.v: CREATE VIEW was not repeated: it was run inside a function" */
NODISCARD bool unrepeated_left(DbConn *source, DbConn *dest, Arena *arena, StringVec *ret_left, Error *err);
