/* Decoding a column, block by block: a coder's words, then their values. docs/format.md is the specification. */
#include "btae.h"
#include "coder.h"
#include "inet.h"

#define STOPPED "decoding was stopped"

/* Windows predicted between two looks at whether to go on: attention takes the square of their tokens. */
static size_t windows_at_once(const dd_btae *btae)
{
	size_t work = (size_t)btae->tokens * btae->tokens * btae->layers;

	return work < 1024 ? 64 : work < 65536 ? 65536 / work : 1;
}

/* The workspace: the coder's state, a block of words and one of classes, the levels, then (BTAE) predictions. */
typedef struct {
	size_t words, classes, levels, predictions;
} layout;

static layout lay_out(const dd_column *c)
{
	layout at = {.words = c->mode == DD_MODE_LINEAR ? 0 : dd_coder_of(c)->workspace(c)};

	at.classes = at.words + DD_BLOCK * sizeof(uint64_t);
	at.levels = at.classes + DD_BLOCK;
	at.predictions = at.levels + dd_align(c->levels * sizeof(int64_t));
	return at;
}

size_t dd_column_workspace(const dd_column *c, const dd_model *model)
{
	size_t size = lay_out(c).predictions;
	dd_btae btae;

	if (c->mode == DD_MODE_BTAE && model != NULL && dd_btae_open(model->section, model->section_len, &btae, NULL) == DD_OK) {
		size_t windows = (c->n + btae.window - 1) / btae.window;

		size += dd_align(windows * btae.window * sizeof(int32_t));
		size += dd_btae_scratch(&btae);
	}
	return size;
}

static dd_status check_model(const dd_column *c, const dd_model *model, dd_error *err)
{
	if (model == NULL)
		return dd_fail(err, DD_CORRUPT, "this column needs its model");
	if (model->crc != c->model_crc)
		return dd_fail(err, DD_CORRUPT, "the model given is not the one this column was encoded with");
	return DD_OK;
}

dd_status dd_column_net(dd_column *c, const dd_model *model, dd_net *net, dd_error *err)
{
	dd_status status = check_model(c, model, err);

	c->net = net;
	if (status != DD_OK)
		return status;
	return (c->mode == DD_MODE_INTERP ? dd_inet_open : dd_net_open)(model->section, model->section_len, net, err);
}

dd_status dd_column_predict(const dd_column *c, const uint8_t *latents, size_t latents_len, const dd_model *model,
			    uint32_t rows, uint8_t *workspace, const int32_t **predictions, dd_error *err)
{
	uint8_t *at = workspace + lay_out(c).predictions;
	dd_btae btae;
	size_t windows, bytes, most;
	dd_status status;

	status = check_model(c, model, err);
	if (status != DD_OK)
		return status;
	status = dd_btae_open(model->section, model->section_len, &btae, err);
	if (status != DD_OK)
		return status;
	windows = (c->n + btae.window - 1) / btae.window;
	bytes = windows * dd_btae_latent_bytes(&btae);
	if (latents_len != bytes || dd_crc32c(0, latents, latents_len) != c->latents_crc)
		return dd_fail(err, DD_CORRUPT, "the latents are damaged or belong to another column");
	*predictions = (const int32_t *)(const void *)at;
	bytes = dd_btae_latent_bytes(&btae);
	most = windows_at_once(&btae);
	for (size_t w = 0, needed = (rows + btae.window - 1) / btae.window; w < needed; w += most) {
		if (dd_stopped(c))
			return dd_fail(err, DD_STOPPED, STOPPED);
		dd_btae_predict(&btae, latents != NULL ? latents + w * bytes : NULL, needed - w < most ? needed - w : most,
				(int32_t *)(void *)at + w * btae.window, at + dd_align(windows * btae.window * sizeof(int32_t)));
	}
	return DD_OK;
}

dd_status dd_model_open(const uint8_t *bytes, size_t len, dd_model *model, dd_error *err)
{
	dd_btae btae;
	dd_net net;
	dd_reader r;

	if (len < 8)
		return dd_fail(err, DD_CORRUPT, "too short for a model");
	r = (dd_reader){bytes + len - 4, bytes + len, false};
	model->crc = (uint32_t)dd_get_le(&r, 4);
	if (model->crc != dd_crc32c(0, bytes, len - 4))
		return dd_fail(err, DD_CORRUPT, "checksum mismatch: the bytes are damaged");
	model->section = bytes;
	model->section_len = len - 4;
	if (memcmp(bytes, "DNET", 4) == 0)
		return dd_net_open(model->section, model->section_len, &net, err);
	if (memcmp(bytes, "INET", 4) == 0)
		return dd_inet_open(model->section, model->section_len, &net, err);
	return dd_btae_open(model->section, model->section_len, &btae, err);
}

dd_status dd_column_peek(const uint8_t *residual, size_t residual_len, const dd_model *model, dd_column_info *info,
			 dd_error *err)
{
	dd_column c;
	dd_reader r;
	dd_status status = dd_header_parse(residual, residual_len, &c, &r, err);

	if (status != DD_OK)
		return status;
	*info = (dd_column_info){.type = c.type,
				 .mode = c.mode,
				 .coder = c.coder,
				 .n = c.n,
				 .has_invalid = (c.flags & DD_FLAG_NULLS) != 0,
				 .needs_model = c.mode == DD_MODE_BTAE || c.coder == DD_CODER_NET,
				 .model_crc = c.model_crc,
				 .escapes = c.escapes,
				 .exact = (c.flags & DD_FLAG_EXACT) != 0,
				 .sides = c.sides,
				 .workspace = dd_column_workspace(&c, model)};
	for (unsigned k = 0; k < c.sides; k++)
		info->side_crc[k] = c.side[k].crc;
	return DD_OK;
}

/* Row i of a linear column has the index first + i * drift. */
static void linear_block(const dd_column *c, uint32_t start, uint32_t rows, uint64_t *word)
{
	for (uint32_t i = 0; i < rows; i++)
		word[i] = (uint64_t)c->first + (start + i) * (uint64_t)c->drift;
}

static dd_status decode_rows(const dd_column *c, const int32_t *predictions, uint32_t want, void *values, uint8_t *valid,
			     uint8_t *workspace, dd_error *err)
{
	const dd_coder *coder = dd_coder_of(c);
	layout at = lay_out(c);
	uint64_t *word = (uint64_t *)(void *)(workspace + at.words);
	uint8_t *class = workspace + at.classes, *value = values;

	if (valid != NULL)
		memset(valid, 1, want);
	for (uint32_t start = 0, rows; start < want; start += rows) {
		if (dd_stopped(c))
			return dd_fail(err, DD_STOPPED, STOPPED);
		rows = want - start < DD_BLOCK ? want - start : DD_BLOCK;
		if (c->mode == DD_MODE_LINEAR)
			linear_block(c, start, rows, word);
		else
			coder->decode(c, workspace, predictions != NULL ? predictions + start : NULL, rows, word, class);
		dd_reconstruct(c, word, rows, value);
		if (c->mode != DD_MODE_LINEAR && (c->flags & DD_FLAG_EXCEPTIONS))
			dd_reconstruct_exceptions(c, word, class, rows, value, valid != NULL ? valid + start : NULL);
		value += (size_t)rows * dd_type_width(c->type);
	}
	return DD_OK;
}

dd_status dd_column_decode_trusting(const uint8_t *residual, size_t residual_len, const uint8_t *latents,
				    size_t latents_len, const dd_model *model, const dd_side *sides, unsigned n_sides,
				    dd_type type, uint32_t n, uint32_t want, void *values, uint8_t *valid,
				    void *workspace, size_t workspace_len, dd_error *err)
{
	const int32_t *predictions = NULL;
	dd_column c;
	dd_net net;
	dd_reader r;
	dd_status status = dd_header_parse(residual, residual_len, &c, &r, err);

	if (status != DD_OK)
		return status;
	c.stop = err != NULL ? err->stop : NULL;
	if (c.type != type || c.n != n)
		return dd_fail(err, DD_CORRUPT, "the column's type or count is not its segment's");
	if (want > n || (valid == NULL && (c.flags & DD_FLAG_NULLS)) || workspace_len < dd_column_workspace(&c, model))
		return dd_fail(err, DD_INVALID, "bad arguments to dd_column_decode");
	status = dd_sides_take(&c, sides, n_sides, err);
	if (status != DD_OK)
		return status;
	if (c.mode == DD_MODE_BTAE) {
		status = dd_column_predict(&c, latents, latents_len, model, want, workspace, &predictions, err);
		if (status != DD_OK)
			return status;
	}
	if (c.coder == DD_CODER_NET) {
		status = dd_column_net(&c, model, &net, err);
		if (status != DD_OK)
			return status;
	}
	if (c.lattice == DD_LATTICE_LEVELS)
		dd_header_levels(&c, (int64_t *)(void *)((uint8_t *)workspace + lay_out(&c).levels));
	if (c.mode != DD_MODE_LINEAR) {
		status = dd_coder_of(&c)->open(&c, r.p, r.end, workspace, err);
		if (status != DD_OK || dd_stopped(&c))
			return status != DD_OK ? status : dd_fail(err, DD_STOPPED, STOPPED);
	}
	return decode_rows(&c, predictions, want, values, valid, workspace, err);
}

dd_status dd_column_decode(const uint8_t *residual, size_t residual_len, const uint8_t *latents, size_t latents_len,
			   const dd_model *model, const dd_side *sides, unsigned n_sides, dd_type type, uint32_t n,
			   uint32_t want, void *values, uint8_t *valid, void *workspace, size_t workspace_len,
			   dd_error *err)
{
	if (residual_len > 1 && residual[1] >> 4 == DD_CODER_BSC) {
		dd_column c;
		dd_reader r;
		dd_status status = dd_header_parse(residual, residual_len, &c, &r, err); /* damage comes first */

		return status != DD_OK ? status : dd_fail(err, DD_UNSUPPORTED, DD_BSC_UNTRUSTED);
	}
	return dd_column_decode_trusting(residual, residual_len, latents, latents_len, model, sides, n_sides, type, n,
					 want, values, valid, workspace, workspace_len, err);
}

dd_status dd_times_decode(const uint8_t *bytes, size_t len, uint32_t n, uint32_t want, int64_t *time, void *workspace,
			  size_t workspace_len, dd_error *err)
{
	dd_column_info info;
	dd_status status = dd_column_peek(bytes, len, NULL, &info, err);

	if (status != DD_OK)
		return status;
	if (info.has_invalid || info.needs_model || info.sides > 0 || !info.exact)
		return dd_fail(err, DD_CORRUPT, "these bytes are no timestamps");
	return dd_column_decode(bytes, len, NULL, 0, NULL, NULL, 0, DD_INT64, n, want, time, NULL, workspace, workspace_len, err);
}
