/* Coder 1, encoding: the tables that describe tokens under their contexts in the fewest bits. */
#include "entropy.h"
#include "rans_encode.h"

/* Bits to describe a table and to code these tokens with it. */
static float price(const dd_rans_coding *s, const uint32_t *count, float table_price)
{
	uint32_t total = 0;
	float bits = 0, description = 8.0f;

	for (unsigned i = 0; i < s->used_count; i++) {
		uint32_t n = count[s->used[i]];

		total += n;
		bits -= dd_times_log(n);
		description += n > 0 ? 4.5f : 1.2f;
	}
	return total == 0 ? 0 : bits + dd_times_log(total) + description + table_price;
}

/* Sum the counts of contexts whose pasts agree under the mask. */
static void gather(const dd_rans_coding *s, const dd_rans_counts *count, unsigned mask, dd_rans_counts *part)
{
	for (unsigned past = 0; past <= mask; past++)
		memset(part[past], 0, sizeof part[past]);
	for (unsigned past = 0; past < DD_RANS_PAST; past++)
		for (unsigned i = 0; i < s->used_count; i++)
			part[past & mask][s->used[i]] += count[past][s->used[i]];
}

static unsigned mask_of(unsigned split)
{
	return split == DD_RANS_ONE ? 0 : split == DD_RANS_BY_LAST ? 3 : DD_RANS_PAST - 1;
}

typedef struct {
	unsigned split, tables;
	float bits;
} choice;

/* The cheapest split of these contexts, of one level or of several merged. */
static choice cheapest(dd_rans_coding *s, const dd_rans_counts *count, float table_price)
{
	choice best = {0};

	for (unsigned split = DD_RANS_ONE; split <= DD_RANS_BY_BOTH; split++) {
		choice c = {split, 0, (float)mask_of(split) + 1};

		gather(s, count, mask_of(split), s->part);
		for (unsigned part = 0; part <= mask_of(split); part++) {
			float bits = price(s, s->part[part], table_price);

			c.bits += bits;
			c.tables += bits > 0;
		}
		if (split == DD_RANS_ONE || c.bits < best.bits)
			best = c;
	}
	return best;
}

static const dd_rans_counts *level_of(const dd_rans_coding *s, unsigned group, unsigned level)
{
	return s->count + (size_t)group * DD_RANS_CONTEXTS + level * DD_RANS_PAST;
}

/* Add a level's counts to the merged ones. */
static void merge(dd_rans_coding *s, unsigned group, unsigned level)
{
	const dd_rans_counts *count = level_of(s, group, level);

	for (unsigned past = 0; past < DD_RANS_PAST; past++)
		for (unsigned i = 0; i < s->used_count; i++)
			s->merged[past][s->used[i]] += count[past][s->used[i]];
}

/* Merge levels upwards where one set of tables for both is cheaper; each set is split as is cheapest for it. */
static unsigned choose_splits(dd_rans_coding *s, unsigned group, float table_price)
{
	unsigned start = 0, tables = 0;
	uint8_t *split = s->split[group];
	choice below;

	memcpy(s->merged, level_of(s, group, 0), sizeof s->merged);
	below = cheapest(s, (const dd_rans_counts *)s->merged, table_price);
	for (unsigned level = 1; level < DD_RANS_LEVELS; level++) {
		choice alone = cheapest(s, level_of(s, group, level), table_price), both;

		merge(s, group, level);
		both = cheapest(s, (const dd_rans_counts *)s->merged, table_price);
		split[level] = DD_RANS_AS_BELOW;
		if (both.bits <= below.bits + alone.bits) {
			below = both;
			continue;
		}
		split[start] = (uint8_t)below.split;
		tables += below.tables;
		start = level;
		below = alone;
		memcpy(s->merged, level_of(s, group, level), sizeof s->merged);
	}
	split[start] = (uint8_t)below.split;
	return tables + below.tables;
}

/* To at most four significant bits. */
static uint32_t rounded(float f)
{
	uint32_t n = f < 1 ? 1 : (uint32_t)(f + 0.5f), drop = dd_bit_length(n) > 4 ? dd_bit_length(n) - 4 : 0;

	return drop == 0 ? n : ((n + (1u << (drop - 1))) >> drop) << drop;
}

/* Frequencies for these counts, as they can be described; returns which used token takes the rest. */
static unsigned share_out(const dd_rans_coding *s, const uint32_t *count, dd_rans_symbol *t)
{
	uint32_t total = 0, sum = 0, at = 0;
	unsigned rest = 0;
	float owed = 0;

	for (unsigned i = 0; i < s->used_count; i++) {
		total += count[s->used[i]];
		if (count[s->used[i]] > count[s->used[rest]])
			rest = i;
	}
	for (unsigned i = 0; i < s->used_count; i++) {
		uint32_t n = count[s->used[i]], f = 0;

		if (n > 0 && i != rest) {
			float share = (float)n * (float)DD_RANS_TOTAL / (float)total;

			f = rounded(share + owed);
			owed += share - (float)f;
		}
		t[s->used[i]].frequency = (uint16_t)f;
		sum += f;
	}
	while (sum >= DD_RANS_TOTAL) { /* take from the largest: with many rare tokens, 1 for each is too much */
		unsigned most = rest == 0 ? 1 : 0, drop;

		for (unsigned i = 0; i < s->used_count; i++)
			if (i != rest && t[s->used[i]].frequency > t[s->used[most]].frequency)
				most = i;
		drop = dd_bit_length(t[s->used[most]].frequency - 1u);
		t[s->used[most]].frequency -= (uint16_t)(1u << (drop > 4 ? drop - 4 : 0));
		sum -= 1u << (drop > 4 ? drop - 4 : 0);
	}
	t[s->used[rest]].frequency = (uint16_t)(DD_RANS_TOTAL - sum);
	for (unsigned i = 0; i < s->used_count; i++) {
		dd_rans_symbol *own = &t[s->used[i]];

		own->first = (uint16_t)at;
		own->inverse = own->frequency > 0 ? (1ull << DD_RANS_INVERSE) / own->frequency + 1 : 0;
		at += own->frequency;
	}
	return rest;
}

static void write_table(const dd_rans_coding *s, const dd_rans_symbol *t, unsigned rest, dd_bit_writer *w)
{
	unsigned before = 8;

	dd_bits_put(w, rest, dd_bit_length(s->used_count - 1));
	for (unsigned i = 0; i < s->used_count; i++) {
		uint32_t f = t[s->used[i]].frequency, length = dd_bit_length(f);
		int change = (int)length - (int)before;
		unsigned zeros = (unsigned)(change < 0 ? -2 * change - 1 : 2 * change);

		if (i == rest)
			continue;
		dd_bits_put(w, 1ull << zeros, zeros + 1);
		if (length >= 2) {
			unsigned more = length < 4 ? length - 1 : 3;

			dd_bits_put(w, (f >> (length - 1 - more)) & ((1u << more) - 1), more);
		}
		before = length;
	}
}

/* A group's tables, the next of which is the `tables`-th; returns which comes after them. */
static unsigned write_group(dd_rans_coding *s, unsigned group, unsigned tables, dd_bit_writer *w)
{
	const uint8_t *split = s->split[group];

	for (unsigned level = 0; level < DD_RANS_LEVELS; level++)
		dd_bits_put(w, split[level], 2);
	for (unsigned level = 0; level < DD_RANS_LEVELS; level++) {
		unsigned mask = mask_of(split[level]);
		uint8_t *to = s->table_of + group * DD_RANS_CONTEXTS + level * DD_RANS_PAST;

		if (split[level] == DD_RANS_AS_BELOW) {
			memcpy(to, to - DD_RANS_PAST, DD_RANS_PAST);
			continue;
		}
		memcpy(s->merged, level_of(s, group, level), sizeof s->merged);
		for (unsigned more = level + 1; more < DD_RANS_LEVELS && split[more] == DD_RANS_AS_BELOW; more++)
			merge(s, group, more);
		gather(s, (const dd_rans_counts *)s->merged, mask, s->part);
		for (unsigned part = 0; part <= mask; part++) {
			uint32_t total = 0;
			uint8_t set = 0;

			for (unsigned i = 0; i < s->used_count; i++)
				total += s->part[part][s->used[i]];
			dd_bits_put(w, total > 0, 1);
			if (total > 0) {
				unsigned rest = share_out(s, s->part[part], s->tables[tables]);

				write_table(s, s->tables[tables], rest, w);
				set = (uint8_t)tables++;
			}
			for (unsigned past = 0; past < DD_RANS_PAST; past++)
				if ((past & mask) == part)
					to[past] = set;
		}
	}
	return tables;
}

/* Which tokens occur at all. */
static void find_used(dd_rans_coding *s)
{
	uint32_t seen[DD_RANS_TOKENS] = {0};

	for (unsigned k = 0; k < s->groups * DD_RANS_CONTEXTS; k++)
		for (unsigned token = 0; token < DD_RANS_TOKENS; token++)
			seen[token] += s->count[k][token];
	s->used_count = 0;
	for (unsigned token = 0; token < DD_RANS_TOKENS; token++)
		if (seen[token] > 0)
			s->used[s->used_count++] = (uint8_t)token;
}

void dd_rans_coding_write(dd_rans_coding *s, dd_bit_writer *w)
{
	float table_price = 0;
	unsigned top, tables;

	find_used(s);
	do {
		tables = 1;
		for (unsigned group = 0; group < s->groups; group++)
			tables += choose_splits(s, group, table_price);
		table_price = 2 * table_price + 64;
	} while (tables > DD_RANS_TABLES);
	top = s->used[s->used_count - 1];
	dd_bits_put(w, top, 8);
	for (unsigned token = 0, i = 0; token <= top; token++) {
		dd_bits_put(w, s->used[i] == token, 1);
		i += s->used[i] == token;
	}
	tables = 1;
	for (unsigned group = 0; group < s->groups; group++)
		tables = write_group(s, group, tables, w);
	dd_bits_flush(w);
}
