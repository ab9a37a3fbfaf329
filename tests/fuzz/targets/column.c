/*
 * One coder's columns: the input is a byte that chooses how much is decoded, then a residual without its checksum.
 *
 * Built with -DCODER and -DMODES (a bit for each mode; the first one replaces modes of other targets). The columns that
 * it is conditioned on, the latents and the model are what the header asks for, made from the same bytes: the weights of
 * a density net are the input, over and over.
 */
#include "coder.h"
#include "section.h"

#define WITH_BTAE (MODES == 1 << DD_MODE_BTAE)
#define WITH_NET (CODER == DD_CODER_NET)
#define WITH_MODEL (WITH_BTAE || WITH_NET)

enum { ROWS_MOST = WITH_BTAE ? 160 : CODER == DD_CODER_CM ? 600 : 1536 }; /* more rows cost time and show nothing new */

/* A model of 16 samples and 12 latent bits a window, always the same. */
static const dd_model *the_model(void)
{
	static const uint8_t seed[] = {1, 1, 16, 0, 12, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0,
				       0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 240, 63, 3, 129, 77, 250, 5};
	static dd_model model;
	static bool made;
	size_t len;

	if (!made && dd_model_open(make_section(seed, sizeof seed, &len), len + 4, &model, NULL) != DD_OK)
		abort();
	made = true;
	return &model;
}

static const dd_model *a_net(const uint8_t *data, size_t size)
{
	static const uint8_t causal[] = {'D', 'N', 'E', 'T', 1, 4, 7, 33, 0, 0, 32, 64, 0, 0, 0, 0, 0, 0, 52, 64,
					 0, 0, 0, 0, 0, 0, 62, 64, 1, 0, 2, 0, 9, 0, 255, 3};
	static const uint8_t between[] = {'I', 'N', 'E', 'T', 1, 7, 33, 0};
	const bool interp = MODES == 1 << DD_MODE_INTERP;
	const uint8_t *head = interp ? between : causal;
	const size_t wide[] = {interp ? 32 : 4 + 16, 7, 33, 12}, head_len = interp ? sizeof between : sizeof causal;
	static dd_model model;
	size_t len = head_len, at = head_len;
	uint8_t *section;

	for (unsigned k = 0; k < 3; k++)
		len += wide[k + 1] * (3 + wide[k]);
	section = repeated(SECTION, data, size, len + 4);
	memcpy(section, head, head_len);
	for (unsigned k = 0; k < 3; k++)
		at = linear_layer(section, at, wide[k], wide[k + 1]);
	put_le32(section + len, dd_crc32c(0, section, len));
	if (dd_model_open(section, len + 4, &model, NULL) != DD_OK)
		abort();
	return &model;
}

/* What follows must fit the header, or nothing behind it is ever reached: the model's and the latents' checksums. */
static size_t mend_model(uint8_t **bytes, size_t size, const dd_model *model, const uint8_t *latents, size_t latents_len)
{
	static int64_t levels[DD_MAX_LEVELS];
	uint8_t own[8192 + 256];
	dd_writer w = {own, own + sizeof own, false};
	dd_reader r;
	dd_column c;

	if (size > 8192 || dd_header_parse(*bytes, size, &c, &r, NULL) != DD_OK || c.levels > 16)
		return 0;
	if (c.lattice == DD_LATTICE_LEVELS)
		dd_header_levels(&c, levels);
	c.model_crc = model->crc;
	c.latents_crc = dd_crc32c(0, latents, latents_len);
	dd_header_write(&c, &w);
	if (w.full || (size_t)(w.end - w.p) < (size_t)(r.end - r.p))
		return 0;
	memcpy(w.p, r.p, (size_t)(r.end - r.p));
	size = (size_t)(w.p - own) + (size_t)(r.end - r.p);
	*bytes = with_checksum(BYTES, own, size);
	return size + 4;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const dd_model *model = WITH_BTAE ? the_model() : NULL;
	dd_column_info info;
	dd_side side[DD_SIDES_MOST];
	uint8_t *bytes, *latents = NULL, *values, *valid = NULL;
	size_t latents_len = 0, len;
	uint32_t want;
	unsigned choice;

	if (size < 3)
		return 0;
	if (WITH_NET)
		model = a_net(data, size);
	choice = data[0];
	len = size - 1 + 4;
	bytes = with_checksum(BYTES, data + 1, size - 1);
	bytes[0] = DD_FORMAT_VERSION;
	if (bytes[1] >> 4 != CODER || !(MODES >> (bytes[1] & 15) & 1))
		bytes[1] = (uint8_t)(CODER << 4 | __builtin_ctz(MODES));
	put_le32(bytes + len - 4, dd_crc32c(0, bytes, len - 4));
	if (dd_column_peek(bytes, len, model, &info, NULL) != DD_OK ||
	    info.n > ROWS_MOST)
		return 0;
	if (WITH_BTAE) {
		latents_len = (info.n + 15) / 16 * 2;
		latents = repeated(LATENTS, data, size, latents_len);
	}
	if (WITH_MODEL) {
		len = mend_model(&bytes, len, model, latents, latents_len);
		if (len == 0)
			return 0;
	}
	for (unsigned k = 0; k < info.sides; k++) {
		side[k] = (dd_side){info.side_crc[k], (dd_type)(1 + (choice + k) % 5), NULL};
		side[k].values = repeated(SIDE + k, data + k % size, size - k % size, (size_t)info.n * dd_type_width(side[k].type));
	}
	want = (uint32_t)((uint64_t)info.n * choice / 255);
	values = block(VALUES, (size_t)want * dd_type_width(info.type));
	if (info.has_invalid || choice & 1)
		valid = block(VALID, want);
	if (dd_column_decode(bytes, len, latents, latents_len, model, side, info.sides, info.type,
			     info.n, want, values, valid, block(WORKSPACE, info.workspace), info.workspace, NULL) == DD_OK) {
		look_at(values, (size_t)want * dd_type_width(info.type));
		if (valid != NULL)
			look_at(valid, want);
	}
	return 0;
}
