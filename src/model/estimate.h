/*
 * What a migration is likely to take, as ranges: of the right order, and never exact.
 *
 * Plain data. low <= high; everything is 0 when nothing was estimated (is_known false).
 */
#pragma once

#include "common/json.h"

typedef struct EstimateRange {
    double low, high;
} EstimateRange;

typedef struct Estimate {
    bool is_known;
    int64_t bytes;        /* of the source that move, as they are on its disk */
    EstimateRange load;   /* seconds */
    EstimateRange wal;    /* bytes that the source keeps meanwhile; 0 when it is not followed */
    EstimateRange disk;   /* bytes at the destination */
    EstimateRange outage; /* seconds without writes */
} Estimate;

json_t *estimate_to_json(const Estimate *estimate); /* new reference */
/* What is missing is 0; is_known is false when `json` is no object. */
void estimate_from_json(const json_t *json, Estimate *ret_estimate);
/* Several databases of one job, whose loads share the machine: at best side by side, at worst one behind another. */
void estimate_add(Estimate *sum, const Estimate *more);
