/* What a migration is likely to take. */
#include "model/estimate.h"

static json_t *range_to_json(EstimateRange range) {
    return json_pack("{s:f, s:f}", "low", range.low, "high", range.high);
}

static EstimateRange range_from_json(const json_t *json) {
    return (EstimateRange){json_get_real(json, "low", 0), json_get_real(json, "high", 0)};
}

json_t *estimate_to_json(const Estimate *estimate) {
    return json_pack("{s:I, s:o, s:o, s:o, s:o}", "sourceBytes", (json_int_t)estimate->bytes, "loadSeconds",
                     range_to_json(estimate->load), "walBytes", range_to_json(estimate->wal), "diskBytes",
                     range_to_json(estimate->disk), "outageSeconds", range_to_json(estimate->outage));
}

void estimate_from_json(const json_t *json, Estimate *ret_estimate) {
    *ret_estimate = (Estimate){
        .is_known = json_is_object(json),
        .bytes = json_get_int(json, "sourceBytes", 0),
        .load = range_from_json(json_get_object(json, "loadSeconds")),
        .wal = range_from_json(json_get_object(json, "walBytes")),
        .disk = range_from_json(json_get_object(json, "diskBytes")),
        .outage = range_from_json(json_get_object(json, "outageSeconds")),
    };
}

static void add_side_by_side(EstimateRange *sum, EstimateRange more) {
    sum->low = sum->low > more.low ? sum->low : more.low;
    sum->high += more.high;
}

void estimate_add(Estimate *sum, const Estimate *more) {
    if (!more->is_known)
        return;
    sum->is_known = true;
    sum->bytes += more->bytes;
    add_side_by_side(&sum->load, more->load);
    add_side_by_side(&sum->wal, more->wal);
    sum->disk.low += more->disk.low;
    sum->disk.high += more->disk.high;
    add_side_by_side(&sum->outage, more->outage);
}
