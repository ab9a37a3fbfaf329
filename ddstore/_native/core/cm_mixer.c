/* The strong mixer's memory and starting state. */
#include "cm_mixer.h"

/* Contexts of short columns need fewer buckets. */
static unsigned bucket_bits(uint32_t n)
{
	unsigned bits = dd_bit_length(n) > 12 ? dd_bit_length(n) - 4 : 8;

	return bits > 12 ? 12 : bits;
}

static size_t slot_bytes(unsigned bits)
{
	return ((size_t)DD_CM_CONTEXTS * DD_CM_BUCKET << bits) * sizeof(uint32_t);
}

size_t dd_cm_mixer_size(uint32_t n)
{
	unsigned bits = bucket_bits(n);

	return dd_align(sizeof(dd_cm_mixer)) + 64 + slot_bytes(bits) +
	       ((size_t)DD_CM_LOW_CONTEXTS << (bits + 2)) * sizeof(uint32_t);
}

static void fill(uint32_t *slot, size_t count)
{
	for (size_t i = 0; i < count; i++)
		slot[i] = DD_SLOT_START;
}

dd_cm_mixer *dd_cm_mixer_start(void *memory, uint32_t n, bool told, bool wide)
{
	dd_cm_mixer *m = memory;
	uint8_t *after = (uint8_t *)memory + dd_align(sizeof *m);

	memset(m, 0, sizeof *m);
	after += (64 - ((uintptr_t)after & 63)) & 63; /* a bucket is one cache line */
	m->wide = wide;
	m->bits = bucket_bits(n);
	m->low_bits = m->bits + 2;
	m->slots = (uint32_t *)(void *)after;
	m->low_slots = (uint32_t *)(void *)(after + slot_bytes(m->bits));
	fill(m->slots, slot_bytes(m->bits) / sizeof(uint32_t));
	fill(m->low_slots, (size_t)DD_CM_LOW_CONTEXTS << m->low_bits);
	for (unsigned k = 0; k < DD_CM_CONTEXTS + DD_CM_EXPERTS; k++)
		m->weight[0][k] = k < DD_CM_CONTEXTS ? 0.09f : wide ? 0.02f : 0.03f;
	for (unsigned k = DD_CM_INPUTS; k < DD_CM_ALL_INPUTS; k++)
		m->weight[0][k] = 0.02f;
	for (unsigned k = 0; k < 2; k++)
		m->weight[0][DD_CM_TOLD + k] = told ? 0.3f : 0.0f;
	for (uint32_t r = 1; r < DD_CM_ROWS; r++)
		memcpy(m->weight[r], m->weight[0], sizeof m->weight[0]);
	for (unsigned d = 0; d < 2 * DD_CM_LOW_DEPTHS; d++) {
		for (unsigned k = 0; k < DD_CM_LOW_INPUTS; k++)
			m->low_weight[d][k] = k < DD_CM_LOW_CONTEXTS ? 0.1f : k < 8 ? 0.0f : wide ? 0.067f : 0.1f;
		for (unsigned k = DD_CM_MORE_LOW; k < DD_CM_ALL_LOW_INPUTS; k++)
			m->low_weight[d][k] = 0.067f;
		for (unsigned k = 0; k < 2; k++)
			m->low_weight[d][DD_CM_LOW_TOLD + k] = told ? 0.4f : 0.0f;
	}
	m->input[DD_CM_CONTEXTS + DD_CM_EXPERTS] = 0.3f;
	m->low_input[DD_CM_LOW_CONTEXTS] = 0.3f;
	for (unsigned i = 0; i < DD_CM_NODES; i++)
		for (unsigned s = 0; s < DD_CM_SETS; s++)
			m->second[i][s] = 0.25f;
	for (unsigned s = 0; s < DD_CM_MAP_STEPS; s++)
		m->map[0][0][s] = dd_squash4(dd_v4_all(((float)s - 16.0f) * 0.5f))[0];
	for (uint32_t r = 1; r < 2 * DD_CM_MAP_ROWS; r++)
		memcpy(m->map[r / DD_CM_MAP_ROWS][r % DD_CM_MAP_ROWS], m->map[0][0], sizeof m->map[0][0]);
	for (int32_t i = 0; i < 4096; i += 4) {
		const dd_v4 steps = {0.5f, 1.5f, 2.5f, 3.5f};
		dd_v4 p = (dd_v4_all((float)i) + steps) / dd_v4_all(4096.0f), logit = dd_log4(p / (dd_v4_all(1.0f) - p));

		memcpy(m->stretch + i, &logit, sizeof logit);
	}
	dd_slot_rates(m->rate);
	return m;
}

void dd_cm_mixer_with_net(dd_cm_mixer *m)
{
	for (uint32_t r = 0; r < DD_CM_ROWS; r++) {
		for (unsigned k = 0; k < DD_CM_CONTEXTS + DD_CM_EXPERTS; k++)
			m->weight[r][k] = k < DD_CM_CONTEXTS ? 0.03f : 0.01f;
		m->weight[r][DD_CM_NET] = 0.8f;
	}
}

void dd_cm_mixer_group(dd_cm_mixer *m, unsigned group)
{
	m->group = group;
	for (unsigned k = 0; k < m->contexts; k++) {
		uint32_t at = ((m->context[k] + group * 0x9e3779b1u) * 0x2c1b3c6du) >> (32 - m->bits);

		m->bucket[k] = m->slots + (((size_t)k << m->bits) + at) * DD_CM_BUCKET;
	}
}

void dd_cm_mixer_symbol(dd_cm_mixer *m)
{
	dd_cm_mixer_group(m, 0);
	for (unsigned k = 0; k < m->contexts; k++)
		__builtin_prefetch(m->bucket[k], 1);
	for (unsigned k = m->contexts; k < DD_CM_CONTEXTS; k++)
		m->input[k] = 0;
}
