/*
 * The double nearest to the shortest decimal that reads as a given float32. Loggers print float32 measurements that way,
 * and what they print is parsed into float64 columns.
 */
#include "column.h"

static const double ten[] = {1e0,  1e1,	 1e2,  1e3,  1e4,  1e5,	 1e6,  1e7,  1e8,  1e9,	 1e10, 1e11,
			     1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

enum { PLACES = sizeof ten / sizeof *ten - 1 };

/* The decimal of so many places that is nearest to y, of two the even one; does it read as y? */
static bool reads_as(float y, int places, double *decimal)
{
	const double whole = 0x1.8p52; /* adding it rounds to a whole number */
	double scaled = (double)y * ten[places];

	if (!(scaled > -0x1p51 && scaled < 0x1p51))
		return false;
	*decimal = (scaled + whole - whole) / ten[places];
	return (float)*decimal == y;
}

double dd_shortest(float y)
{
	double best = 0, fewer;
	uint32_t bits;
	int exponent, places;

	memcpy(&bits, &y, sizeof bits);
	exponent = (int)(bits >> 23 & 255) - 127;
	places = 6 - ((exponent * 1233) >> 12); /* seven digits or so */
	if (exponent == 128 || exponent == -127 || places > PLACES)
		return y;
	if (places < 0)
		places = 0;
	while (!reads_as(y, places, &best))
		if (++places > PLACES)
			return y;
	while (places > 0 && reads_as(y, places - 1, &fewer)) {
		best = fewer;
		places--;
	}
	return best;
}
