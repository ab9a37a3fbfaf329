/* The header of a column, of any version, mode and coder: the input is a residual without its checksum. */
#include "harness.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	dd_column_info info;

	if (dd_column_peek(with_checksum(BYTES, data, size), size + 4, NULL, &info, NULL) == DD_OK) {
		if (info.n == 0 || info.n > DD_MAX_ROWS || info.sides > DD_SIDES_MOST || info.workspace > (size_t)64 << 20)
			abort(); /* declared sizes bound what a caller allocates */
	}
	return 0;
}
