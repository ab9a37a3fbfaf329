/* CRC32C (Castagnoli, reflected 0x82F63B78), eight bytes at a time. */
#include "bytes.h"
#include "ddstore.h"

/* A table's entry is the sum of those of its index's bits: 256 of them from eight constants. */
#define BY1(i, a, b, c, d, e, f, g, h)                                                                         \
	((i) & 1 ? a : 0) ^ ((i) & 2 ? b : 0) ^ ((i) & 4 ? c : 0) ^ ((i) & 8 ? d : 0) ^ ((i) & 16 ? e : 0) ^   \
		((i) & 32 ? f : 0) ^ ((i) & 64 ? g : 0) ^ ((i) & 128 ? h : 0)
#define BY4(i, ...) BY1(i, __VA_ARGS__), BY1(i + 1, __VA_ARGS__), BY1(i + 2, __VA_ARGS__), BY1(i + 3, __VA_ARGS__)
#define BY16(i, ...) BY4(i, __VA_ARGS__), BY4(i + 4, __VA_ARGS__), BY4(i + 8, __VA_ARGS__), BY4(i + 12, __VA_ARGS__)
#define BY64(i, ...) BY16(i, __VA_ARGS__), BY16(i + 16, __VA_ARGS__), BY16(i + 32, __VA_ARGS__), BY16(i + 48, __VA_ARGS__)
#define SLICE(...) {BY64(0, __VA_ARGS__), BY64(64, __VA_ARGS__), BY64(128, __VA_ARGS__), BY64(192, __VA_ARGS__)}

/* after[k][i]: what byte i becomes after k more bytes of zeros */
static const uint32_t after[8][256] = {
	SLICE(0xf26b8303, 0xe13b70f7, 0xc79a971f, 0x8ad958cf, 0x105ec76f, 0x20bd8ede, 0x417b1dbc, 0x82f63b78),
	SLICE(0x13a29877, 0x274530ee, 0x4e8a61dc, 0x9d14c3b8, 0x3fc5f181, 0x7f8be302, 0xff17c604, 0xfbc3faf9),
	SLICE(0xa541927e, 0x4f6f520d, 0x9edea41a, 0x38513ec5, 0x70a27d8a, 0xe144fb14, 0xc76580d9, 0x8b277743),
	SLICE(0xdd45aab8, 0xbf672381, 0x7b2231f3, 0xf64463e6, 0xe964b13d, 0xd725148b, 0xaba65fe7, 0x52a0c93f),
	SLICE(0x38116fac, 0x7022df58, 0xe045beb0, 0xc5670b91, 0x8f2261d3, 0x1ba8b557, 0x37516aae, 0x6ea2d55c),
	SLICE(0xef306b19, 0xdb8ca0c3, 0xb2f53777, 0x6006181f, 0xc00c303e, 0x85f4168d, 0x0e045beb, 0x1c08b7d6),
	SLICE(0x68032cc8, 0xd0065990, 0xa5e0c5d1, 0x4e2dfd53, 0x9c5bfaa6, 0x3d5b83bd, 0x7ab7077a, 0xf56e0ef4),
	SLICE(0x493c7d27, 0x9278fa4e, 0x211d826d, 0x423b04da, 0x847609b4, 0x0d006599, 0x1a00cb32, 0x34019664),
};

uint32_t dd_crc32c(uint32_t crc, const uint8_t *bytes, size_t len)
{
	crc = ~crc;
	for (; len >= 8; bytes += 8, len -= 8) {
		uint64_t v = dd_load_le64(bytes) ^ crc;

		crc = after[7][v & 255] ^ after[6][v >> 8 & 255] ^ after[5][v >> 16 & 255] ^ after[4][v >> 24 & 255] ^
		      after[3][v >> 32 & 255] ^ after[2][v >> 40 & 255] ^ after[1][v >> 48 & 255] ^ after[0][v >> 56];
	}
	for (; len > 0; bytes++, len--)
		crc = crc >> 8 ^ after[0][(crc ^ *bytes) & 255];
	return ~crc;
}
