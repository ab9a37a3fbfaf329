/* Other columns of the segment, on whose condition a column is coded. */
#include "column.h"

static double value_at(const dd_side *side, uint32_t row)
{
	switch (side->type) {
	case DD_INT16:
		return ((const int16_t *)side->values)[row];
	case DD_INT32:
		return ((const int32_t *)side->values)[row];
	case DD_INT64:
		return (double)((const int64_t *)side->values)[row];
	case DD_FLOAT32:
		return ((const float *)side->values)[row];
	default:
		return ((const double *)side->values)[row];
	}
}

int64_t dd_side_index(const dd_side_use *side, uint32_t row)
{
	double x = (value_at(&side->given, row) - side->offset) * side->scale;

	if (!(x > -0x1p60 && x < 0x1p60)) /* NaN, too */
		return 0;
	return (int64_t)(x < 0 ? x - 0.5 : x + 0.5);
}

dd_status dd_sides_take(dd_column *c, const dd_side *given, unsigned count, dd_error *err)
{
	if (count != c->sides)
		return dd_fail(err, DD_CORRUPT, "this column needs the columns it is conditioned on");
	for (unsigned k = 0; k < count; k++) {
		if (given[k].crc != c->side[k].crc)
			return dd_fail(err, DD_CORRUPT, "this column is conditioned on another column than the one given");
		if (given[k].type < DD_INT16 || given[k].type > DD_FLOAT64 || given[k].values == NULL)
			return dd_fail(err, DD_INVALID, "bad column to condition on");
		c->side[k].given = given[k];
	}
	return DD_OK;
}
