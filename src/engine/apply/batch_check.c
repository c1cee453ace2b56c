/*
 * Whether one change keeps the rules of identity, before it may touch the batch.
 *
 * What fails here can't come from a healthy source: it means a defect, or a definition that does not fit the stream.
 * To go on would match a wrong row or none.
 */
#include "engine/apply/batch_internal.h"

bool table_has_key(const BatchTable *table) {
    if (table->identity != 'd' && table->identity != 'i')
        return false;
    for (uint16_t i = 0; i < table->columns_count; i++) {
        if (table->columns[i].is_key)
            return true;
    }
    return false;
}

static const char *op_name(BatchOp op) {
    switch (op) {
    case BATCH_INSERT:
        return "insert";
    case BATCH_UPDATE:
        return "update";
    case BATCH_DELETE:
        return "delete";
    }
    UNREACHABLE();
}

static bool bad(const BatchTable *table, BatchOp op, const char *why, Error *err) {
    return error_set(err, REASON_BAD_DATA, "%s of relation %u %s", op_name(op), table->relation, why);
}

static bool check_shape(const BatchTable *table, BatchOp op, const PgoRow *row, Error *err) {
    bool has_old = row->old_kind != 0;
    bool has_new = op != BATCH_DELETE;
    if (row->new_tuple.count != (has_new ? table->columns_count : 0) ||
        row->old_tuple.count != (has_old ? table->columns_count : 0))
        return bad(table, op, "has not the columns of its relation", err);
    if (op == BATCH_INSERT && has_old)
        return bad(table, op, "has an old row", err);
    return true;
}

static bool check_complete(const BatchTable *table, BatchOp op, const PgoTuple *tuple, Error *err) {
    for (uint16_t i = 0; i < tuple->count; i++) {
        if (tuple->values[i].kind == PGO_UNCHANGED)
            return bad(table, op, "lacks a value that should be there", err);
    }
    return true;
}

/* Every key column has a value; an unchanged one is in the old tuple. */
static bool check_key(const BatchTable *table, BatchOp op, const PgoTuple *tuple, bool may_be_unchanged, Error *err) {
    for (uint16_t i = 0; i < tuple->count; i++) {
        if (!table->columns[i].is_key)
            continue;
        if (tuple->values[i].kind == PGO_NULL)
            return bad(table, op, "has NULL in its key", err);
        if (tuple->values[i].kind == PGO_UNCHANGED && !may_be_unchanged)
            return bad(table, op, "does not say its key", err);
    }
    return true;
}

static bool check_identity(const BatchTable *table, BatchOp op, const PgoRow *row, Error *err) {
    if (table->identity == 'f')
        return row->old_kind == 'O' ? check_complete(table, op, &row->old_tuple, err)
                                    : bad(table, op, "with identity FULL has no old row", err);
    if (!table_has_key(table))
        return bad(table, op, "which has no replica identity", err);
    if (op == BATCH_DELETE && row->old_kind == 0)
        return bad(table, op, "has no old row", err);
    return check_key(table, op, &row->old_tuple, false, err);
}

bool change_check(const BatchTable *table, BatchOp op, const PgoRow *row, Error *err) {
    if (!check_shape(table, op, row, err))
        return false;
    if (op == BATCH_INSERT) {
        if (!check_complete(table, op, &row->new_tuple, err))
            return false;
    } else if (!check_identity(table, op, row, err)) {
        return false;
    }
    return !table_has_key(table) || check_key(table, op, &row->new_tuple, row->old_kind != 0, err);
}
