/* Coder 1, decoding: the tables that a payload describes, and what tokens stand for. */
#include "rans.h"

static void fill(dd_rans_slot *at, unsigned token, uint32_t frequency)
{
	for (uint32_t i = 0; i < frequency; i++)
		at[i] = token | i << 8 | (frequency - 1) << 20;
}

/* A frequency has a bit length, near that of the one before it, and up to three bits below the leading one. */
static bool read_frequency(dd_bit_reader *r, unsigned *length, uint32_t *frequency)
{
	uint64_t ahead = dd_bits_peek(r) | 1ull << 26;
	unsigned change = (unsigned)__builtin_ctzll(ahead), more;
	int to = (int)*length + (int)((change >> 1) ^ (0u - (change & 1)));

	r->at += change + 1;
	if (to < 0 || to > (int)DD_RANS_BITS)
		return false;
	*length = (unsigned)to;
	more = to < 2 ? 0 : to < 4 ? (unsigned)to - 1 : 3;
	*frequency = to == 0 ? 0 : (uint32_t)(1u << more | dd_bits_get(r, more)) << ((unsigned)to - 1 - more);
	return true;
}

/* One table: a bit whether it ever occurs; which token takes what the others leave; the others' frequencies. */
static bool read_table(dd_bit_reader *r, const uint8_t *used, unsigned count, dd_rans_slot *slots)
{
	uint32_t frequency[DD_RANS_TOKENS], sum = 0, at = 0;
	unsigned rest, length = 8;

	rest = (unsigned)dd_bits_get(r, dd_bit_length(count - 1));
	if (rest >= count)
		return false;
	for (unsigned i = 0; i < count; i++) {
		frequency[i] = 0;
		if (i != rest && !read_frequency(r, &length, &frequency[i]))
			return false;
		sum += frequency[i];
	}
	if (sum >= DD_RANS_TOTAL)
		return false;
	frequency[rest] = DD_RANS_TOTAL - sum;
	for (unsigned i = 0; i < count; i++) {
		fill(slots + at, used[i], frequency[i]);
		at += frequency[i];
	}
	return true;
}

/* The tables of one group of contexts: which of them share one, then each. */
static bool read_group(dd_bit_reader *r, const uint8_t *used, unsigned count, unsigned *tables, dd_rans_table *table,
		       uint8_t *table_of)
{
	uint8_t split[DD_RANS_LEVELS];

	for (unsigned level = 0; level < DD_RANS_LEVELS; level++)
		split[level] = (uint8_t)dd_bits_get(r, 2);
	for (unsigned level = 0; level < DD_RANS_LEVELS; level++) {
		uint8_t *to = table_of + level * DD_RANS_PAST, parts[DD_RANS_PAST];
		unsigned mask = split[level] == DD_RANS_ONE ? 0 : split[level] == DD_RANS_BY_LAST ? 3 : DD_RANS_PAST - 1;

		if (split[level] == DD_RANS_AS_BELOW) {
			if (level == 0)
				return false;
			memcpy(to, to - DD_RANS_PAST, DD_RANS_PAST);
			continue;
		}
		for (unsigned part = 0; part <= mask; part++) {
			parts[part] = 0;
			if (!dd_bits_get(r, 1))
				continue;
			if (*tables == DD_RANS_TABLES || !read_table(r, used, count, table[*tables]))
				return false;
			parts[part] = (uint8_t)(*tables)++;
		}
		for (unsigned past = 0; past < DD_RANS_PAST; past++)
			to[past] = parts[past & mask];
	}
	return true;
}

bool dd_rans_read_tables(dd_bit_reader *r, unsigned groups, unsigned least, dd_rans_table *table, uint8_t *table_of)
{
	uint8_t used[DD_RANS_TOKENS];
	unsigned count = 0, tables = 1, top = (unsigned)dd_bits_get(r, 8);

	if (top >= DD_RANS_TOKENS)
		return false;
	for (unsigned token = 0; token <= top; token++)
		if (dd_bits_get(r, 1))
			used[count++] = (uint8_t)token;
	if (count == 0 || used[0] < least)
		return false;
	fill(table[0], DD_TOKEN_ZERO, DD_RANS_TOTAL); /* where nothing is ever coded */
	for (unsigned group = 0; group < groups; group++)
		if (!read_group(r, used, count, &tables, table, table_of + group * DD_RANS_CONTEXTS))
			return false;
	return true;
}

void dd_rans_parts_fill(dd_rans_parts *p)
{
	memset(p, 0, sizeof *p);
	for (unsigned token = DD_TOKEN_FIRST; token < DD_RANS_TOKENS; token++) {
		unsigned bucket = (token - DD_TOKEN_FIRST) / 2;

		p->part[token] = (dd_rans_part){0ull - ((token - DD_TOKEN_FIRST) & 1), dd_rans_least(bucket), dd_rans_extra(bucket)};
		if (bucket < DD_RANS_DIRECT)
			p->small[token] = (int8_t)((token - DD_TOKEN_FIRST) & 1 ? -(int)bucket - 1 : (int)bucket + 1);
	}
}
