/* Timestamps: the input is a byte that chooses how many are wanted, then their bytes without the checksum. */
#include "column.h"
#include "harness.h"

enum { ROWS_MOST = 1024 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	dd_column_info info;
	uint8_t *bytes;
	int64_t *time;
	uint32_t want;
	size_t len;

	if (size < 5)
		return 0;
	len = size - 1 + 4;
	bytes = with_checksum(BYTES, data + 1, size - 1);
	bytes[0] = DD_FORMAT_VERSION;
	bytes[2] = DD_INT64;
	bytes[3] |= DD_FLAG_EXACT;
	put_le32(bytes + len - 4, dd_crc32c(0, bytes, len - 4));
	if (dd_column_peek(bytes, len, NULL, &info, NULL) != DD_OK || info.n > ROWS_MOST)
		return 0;
	want = (uint32_t)((uint64_t)info.n * data[0] / 255);
	time = block(VALUES, want * sizeof *time);
	if (dd_times_decode(bytes, len, info.n, want, time, block(WORKSPACE, info.workspace), info.workspace, NULL) == DD_OK)
		look_at(time, want * sizeof *time);
	return 0;
}
