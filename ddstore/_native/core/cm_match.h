/*
 * Rows that come again: where the last indices stood before, anywhere in the segment, the next one may be what it was
 * then. What is foretold so becomes two inputs of the mixer in every decision on the way there, as strong as foretelling
 * has proved to be: by how many indices on end were the same, and by which of the last ones it missed.
 */
#ifndef DD_CM_MATCH_H
#define DD_CM_MATCH_H

#include "cm_mixer.h"

enum {
	DD_MATCH_HASHES = 2,
	DD_MATCH_LEAST = 6,	/* indices that have to be the same */
	DD_MATCH_LONG = 16,
	DD_MATCH_FAR = 32,	/* indices that are compared before a place is taken */
	DD_MATCH_CLASSES = 16,	/* of how many were the same */
	DD_MATCH_MISSES = 64,	/* which of the last six were missed */
	DD_MATCH_NODES = 32,	/* zero?, sign, unary, length, top bit of a tail; low bits from 16 on */
	DD_MATCH_LOW_NODE = 16,
	DD_MATCH_NOTHING = 2	/* neither 0 nor 1 is foretold */
};

typedef struct {
	uint32_t by_length[DD_MATCH_CLASSES][DD_MATCH_NODES]; /* slots: was the bit what was foretold? */
	uint32_t by_misses[DD_MATCH_MISSES][DD_MATCH_NODES];
	uint32_t *slot[2];
	uint32_t *place[DD_MATCH_HASHES]; /* hash of the last indices -> the row after them */
	unsigned bits;
	uint32_t hash[DD_MATCH_HASHES];
	uint32_t from;	  /* the row that foretells the next one; 0: none */
	uint32_t same;	  /* how many indices before it were the same */
	uint32_t misses;  /* its last ones, a bit each */
	unsigned class;	  /* of `same` */
	int64_t e;	  /* the residual foretold, without its low bits; and with them */
	uint64_t r;
	bool on;	  /* all of the residual that has been coded is what was foretold */
	unsigned bit;	  /* foretold of this decision */
} dd_match;

static inline unsigned dd_match_bits(uint32_t n)
{
	unsigned bits = dd_bit_length(n);

	return bits > 18 ? 18 : bits;
}

/* Bytes for n indices. */
static inline size_t dd_match_size(uint32_t n)
{
	return dd_align(sizeof(dd_match)) + ((size_t)DD_MATCH_HASHES * sizeof(uint32_t) << dd_match_bits(n));
}

static inline dd_match *dd_match_start(void *memory, uint32_t n)
{
	dd_match *x = memory;
	uint32_t *slot = &x->by_length[0][0], *place = (uint32_t *)(void *)((uint8_t *)memory + dd_align(sizeof *x));

	memset(memory, 0, dd_match_size(n));
	for (unsigned i = 0; i < (DD_MATCH_CLASSES + DD_MATCH_MISSES) * DD_MATCH_NODES; i++)
		slot[i] = DD_SLOT_START;
	x->bits = dd_match_bits(n);
	for (unsigned i = 0; i < DD_MATCH_HASHES; i++)
		x->place[i] = place + ((size_t)i << x->bits);
	return x;
}

/* How many indices before row a are the same as before row b, which is later. */
static inline uint32_t dd_match_same(const uint64_t *q, uint32_t a, uint32_t b)
{
	uint32_t same = 0;

	while (same < DD_MATCH_FAR && same < a && q[a - 1 - same] == q[b - 1 - same])
		same++;
	return same;
}

/* Take the place where these indices were seen last, if more of them are the same there; row `at` comes next. */
static inline void dd_match_look(dd_match *x, const uint64_t *q, uint32_t at, uint32_t *place)
{
	uint32_t before = *place, same = 0;

	*place = at;
	if (before != 0 && x->same < DD_MATCH_FAR)
		same = dd_match_same(q, before, at);
	if (same >= DD_MATCH_LEAST && same > x->same) {
		x->misses = before == x->from ? x->misses : 0;
		x->from = before;
		x->same = same;
	}
}

/* Row at - 1 has got its index: was it foretold? */
static inline void dd_match_follow(dd_match *x, const uint64_t *q, uint32_t at)
{
	if (x->from != 0) {
		bool missed = q[x->from] != q[at - 1];

		x->misses = (x->misses << 1 | missed) & 255;
		x->same = missed ? 0 : x->same + 1;
		x->from = x->misses == 255 ? 0 : x->from + 1;
	}
}

/* The hash of the last indices, of which q is the last. */
static inline uint32_t dd_match_hash(dd_match *x, unsigned i, uint64_t q)
{
	/* What the powers of two in them multiply up to 0: indices more than 6, and more than 16 rows ago. */
	static const uint32_t factor[DD_MATCH_HASHES] = {0x9e3779b1u << 6, 0x9e3779b1u << 2};

	return x->hash[i] = (x->hash[i] + (uint32_t)q) * factor[i];
}

static inline uint32_t *dd_match_place(const dd_match *x, unsigned i)
{
	return &x->place[i][dd_hash(x->hash[i], 0) >> (32 - x->bits)];
}

/* Row at - 1 has got its index. */
static inline void dd_match_move(dd_match *x, const uint64_t *q, uint32_t at)
{
	dd_match_follow(x, q, at);
	for (unsigned i = 0; i < DD_MATCH_HASHES; i++) {
		dd_match_hash(x, i, q[at - 1]);
		dd_match_look(x, q, at, dd_match_place(x, i));
	}
}

/* What is foretold of the next residual. */
static inline void dd_match_foretell(dd_match *x, const uint64_t *q, uint64_t centre, unsigned low)
{
	uint32_t bits = dd_bit_length(x->same);

	x->on = x->from != 0;
	x->r = q[x->from] - centre;
	x->e = (int64_t)x->r >> low;
	x->class = x->same < 4 ? x->same : 2 * bits - 2 + (x->same >> (bits - 2) & 1);
	x->class = x->class < DD_MATCH_CLASSES ? x->class : DD_MATCH_CLASSES - 1;
}

/* Two inputs for a decision in which `bit` is foretold, if anything still is. */
static inline void dd_match_expect(dd_match *x, const dd_cm_mixer *m, unsigned node, unsigned bit, float *input)
{
	x->bit = x->on ? bit : DD_MATCH_NOTHING;
	x->slot[0] = &x->by_length[x->class][node];
	x->slot[1] = &x->by_misses[x->misses % DD_MATCH_MISSES][node];
	for (unsigned k = 0; k < 2; k++) {
		float strength = m->stretch[*x->slot[k] >> 20];

		input[k] = x->on ? bit ? strength : -strength : 0;
	}
}

static inline void dd_match_learn(dd_match *x, const dd_cm_mixer *m, unsigned bit)
{
	if (!x->on)
		return;
	x->on = bit == x->bit;
	dd_slot_learn(x->slot[0], m->rate, x->on);
	dd_slot_learn(x->slot[1], m->rate, x->on);
}

#endif
