/* What the encoder asks of values and lattices: buffers in, buffers out, sizes checked here. */
#include "module.h"

#include "coder.h"
#include "quantize.h"

static PyObject *bad(const char *name)
{
	return PyErr_Format(PyExc_ValueError, "bad arguments to %s", name);
}

/* How many elements of the type; -1 when the buffer holds no whole number of them, or too many. */
static Py_ssize_t elements(const Py_buffer *b, int type)
{
	Py_ssize_t width;

	if (type < DD_INT16 || type > DD_FLOAT64)
		return -1;
	width = (Py_ssize_t)dd_type_width((dd_type)type);
	return b->len % width != 0 || b->len / width > (Py_ssize_t)UINT32_MAX ? -1 : b->len / width;
}

PyObject *ddpy_classify(PyObject *self, PyObject *args)
{
	Py_buffer values, valid = {0};
	PyObject *classes = NULL, *result = NULL;
	int type;
	Py_ssize_t n;
	uint32_t odd;

	(void)self;
	if (!PyArg_ParseTuple(args, "iy*z*", &type, &values, &valid))
		return NULL;
	n = elements(&values, type);
	if (n < 0 || (valid.buf != NULL && valid.len != n)) {
		bad("classify");
	} else if ((classes = PyByteArray_FromStringAndSize(NULL, n)) != NULL) {
		Py_BEGIN_ALLOW_THREADS;
		odd = dd_classify((dd_type)type, values.buf, valid.buf, (uint32_t)n,
				  (uint8_t *)PyByteArray_AS_STRING(classes));
		Py_END_ALLOW_THREADS;
		result = Py_BuildValue("NI", classes, (unsigned)odd);
	}
	PyBuffer_Release(&values);
	PyBuffer_Release(&valid);
	return result;
}

PyObject *ddpy_quantize(PyObject *self, PyObject *args, PyObject *kwargs)
{
	static char *names[] = {"type", "values", "kind", "low", "width", "den", "step", "offset", NULL};
	Py_buffer values;
	PyObject *index = NULL;
	dd_bins bins;
	int type, kind;
	long long low, width;
	Py_ssize_t n;

	(void)self;
	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "iy*iLLddd", names, &type, &values, &kind, &low, &width, &bins.den,
					 &bins.step, &bins.offset))
		return NULL;
	bins.kind = (dd_lattice_kind)kind;
	bins.low = low;
	bins.width = width;
	n = elements(&values, type);
	if (n < 0 || kind < 0 || kind > DD_LATTICE_ORDINAL || width < 1 || (kind != DD_LATTICE_GRID && type < DD_FLOAT32)) {
		bad("quantize");
	} else if ((index = PyByteArray_FromStringAndSize(NULL, n * 8)) != NULL) {
		Py_BEGIN_ALLOW_THREADS;
		dd_quantize(&bins, (dd_type)type, values.buf, (uint32_t)n,
			    (uint64_t *)(void *)PyByteArray_AS_STRING(index));
		Py_END_ALLOW_THREADS;
	}
	PyBuffer_Release(&values);
	return index;
}

PyObject *ddpy_reconstruct(PyObject *self, PyObject *args, PyObject *kwargs)
{
	static char *names[] = {"type", "index", "lattice", "mul", "add", "den", "step", "offset", "via_float32", "shortest",
				"levels", NULL};
	Py_buffer index, levels = {0};
	PyObject *values = NULL;
	dd_column c = {.mode = DD_MODE_LATTICE};
	int type, lattice, via_float32, shortest;
	long long mul, add;
	unsigned long long den;
	Py_ssize_t n;

	(void)self;
	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "iy*iLLKddppz*", names, &type, &index, &lattice, &mul, &add, &den,
					 &c.step, &c.offset, &via_float32, &shortest, &levels))
		return NULL;
	c.type = (dd_type)type;
	c.lattice = (dd_lattice_kind)lattice;
	c.mul = mul;
	c.add = add;
	c.den = den;
	c.flags = (via_float32 ? DD_FLAG_VIA_FLOAT32 : 0) | (shortest ? DD_FLAG_SHORTEST : 0);
	c.level = levels.buf;
	c.levels = (uint32_t)(levels.len / 8);
	n = elements(&index, DD_INT64);
	if (n < 0 || type < DD_INT16 || type > DD_FLOAT64 || lattice < 0 ||
	    lattice > DD_LATTICE_LEVELS || (lattice == DD_LATTICE_LEVELS && c.levels == 0) || levels.len % 8 != 0 ||
	    (type < DD_FLOAT32 && lattice != DD_LATTICE_GRID)) {
		bad("reconstruct");
	} else if ((values = PyByteArray_FromStringAndSize(NULL, n * (Py_ssize_t)dd_type_width(c.type))) != NULL) {
		Py_BEGIN_ALLOW_THREADS;
		for (Py_ssize_t at = 0; at < n; at += DD_BLOCK)
			dd_reconstruct(&c, (const uint64_t *)index.buf + at,
				       (uint32_t)(n - at < (Py_ssize_t)DD_BLOCK ? n - at : (Py_ssize_t)DD_BLOCK),
				       PyByteArray_AS_STRING(values) + at * (Py_ssize_t)dd_type_width(c.type));
		Py_END_ALLOW_THREADS;
	}
	PyBuffer_Release(&index);
	PyBuffer_Release(&levels);
	return values;
}

PyObject *ddpy_shortest(PyObject *self, PyObject *args)
{
	Py_buffer values;
	PyObject *result = NULL;
	Py_ssize_t n;

	(void)self;
	if (!PyArg_ParseTuple(args, "y*", &values))
		return NULL;
	n = elements(&values, DD_FLOAT32);
	if (n < 0) {
		bad("shortest");
	} else if ((result = PyByteArray_FromStringAndSize(NULL, n * 8)) != NULL) {
		Py_BEGIN_ALLOW_THREADS;
		for (Py_ssize_t i = 0; i < n; i++)
			((double *)(void *)PyByteArray_AS_STRING(result))[i] = dd_shortest(((const float *)values.buf)[i]);
		Py_END_ALLOW_THREADS;
	}
	PyBuffer_Release(&values);
	return result;
}

PyObject *ddpy_violations(PyObject *self, PyObject *args)
{
	Py_buffer values, read, allowed;
	PyObject *beyond = NULL, *result = NULL;
	int type;
	Py_ssize_t n;
	uint32_t count;

	(void)self;
	if (!PyArg_ParseTuple(args, "iy*y*y*", &type, &values, &read, &allowed))
		return NULL;
	n = elements(&values, type);
	if (n < 0 || read.len != values.len || (allowed.len != 8 && allowed.len != n * 8)) {
		bad("violations");
	} else if ((beyond = PyByteArray_FromStringAndSize(NULL, n)) != NULL) {
		Py_BEGIN_ALLOW_THREADS;
		count = dd_violations((dd_type)type, values.buf, read.buf, (uint32_t)n, allowed.buf, allowed.len != 8,
				      (uint8_t *)PyByteArray_AS_STRING(beyond));
		Py_END_ALLOW_THREADS;
		result = Py_BuildValue("NI", beyond, (unsigned)count);
	}
	PyBuffer_Release(&values);
	PyBuffer_Release(&read);
	PyBuffer_Release(&allowed);
	return result;
}

PyObject *ddpy_exact_sum(PyObject *self, PyObject *args)
{
	Py_buffer values;
	PyObject *result = NULL;
	char little[DD_SUM_LIMBS * 4 + 8];
	dd_sum sum = {0};
	int64_t carry = 0;
	uint32_t odd;
	int type;
	Py_ssize_t n;

	(void)self;
	if (!PyArg_ParseTuple(args, "iy*", &type, &values))
		return NULL;
	n = elements(&values, type);
	if (n < 0 || type < DD_FLOAT32) {
		bad("exact_sum");
		goto done;
	}
	Py_BEGIN_ALLOW_THREADS;
	odd = dd_sum_add(&sum, (dd_type)type, values.buf, (uint32_t)n);
	Py_END_ALLOW_THREADS;
	for (unsigned i = 0; i < DD_SUM_LIMBS; i++) {
		int64_t limb = sum.limb[i] + carry;

		for (unsigned b = 0; b < 4; b++)
			little[4 * i + b] = (char)((uint64_t)limb >> (8 * b));
		carry = limb >> 32;
	}
	for (unsigned b = 0; b < 8; b++)
		little[DD_SUM_LIMBS * 4 + b] = (char)((uint64_t)carry >> (8 * b));
	result = Py_BuildValue("y#I", little, (Py_ssize_t)sizeof little, (unsigned)odd);
done:
	PyBuffer_Release(&values);
	return result;
}

PyObject *ddpy_roughness(PyObject *self, PyObject *args)
{
	Py_buffer index;
	Py_ssize_t n;
	float bits = 0;

	(void)self;
	if (!PyArg_ParseTuple(args, "y*", &index))
		return NULL;
	n = elements(&index, DD_INT64);
	if (n >= 0)
		bits = dd_roughness(index.buf, (uint32_t)n);
	PyBuffer_Release(&index);
	return n < 0 ? bad("roughness") : PyFloat_FromDouble(bits);
}

PyObject *ddpy_phase_roughness(PyObject *self, PyObject *args)
{
	Py_buffer places;
	double shift;
	Py_ssize_t n;
	float bits = 0;

	(void)self;
	if (!PyArg_ParseTuple(args, "y*d", &places, &shift))
		return NULL;
	n = elements(&places, DD_FLOAT64);
	if (n >= 0)
		bits = dd_phase_roughness(places.buf, shift, (uint32_t)n);
	PyBuffer_Release(&places);
	return n < 0 ? bad("phase_roughness") : PyFloat_FromDouble(bits);
}

PyObject *ddpy_foretold(PyObject *self, PyObject *args)
{
	Py_buffer index;
	float share = 0;
	void *memory = NULL;
	Py_ssize_t n;

	(void)self;
	if (!PyArg_ParseTuple(args, "y*", &index))
		return NULL;
	n = elements(&index, DD_INT64);
	if (n >= 0)
		memory = PyMem_Malloc(dd_foretold_size((uint32_t)n));
	if (memory != NULL) {
		Py_BEGIN_ALLOW_THREADS;
		share = dd_foretold(index.buf, (uint32_t)n, memory);
		Py_END_ALLOW_THREADS;
	}
	PyMem_Free(memory);
	PyBuffer_Release(&index);
	if (n < 0)
		return bad("foretold");
	return memory == NULL ? PyErr_NoMemory() : PyFloat_FromDouble(share);
}

static PyObject *describe(const dd_grid *grid)
{
	if (grid->hits == 0)
		Py_RETURN_NONE;
	return Py_BuildValue("LLKO", (long long)grid->origin, (long long)grid->pitch, (unsigned long long)grid->den,
			     grid->via_float32 ? Py_True : Py_False);
}

PyObject *ddpy_find_grids(PyObject *self, PyObject *args)
{
	Py_buffer values;
	dd_grid all, most;
	int type;
	Py_ssize_t n;

	(void)self;
	if (!PyArg_ParseTuple(args, "iy*", &type, &values))
		return NULL;
	n = elements(&values, type);
	if (n < 1) {
		PyBuffer_Release(&values);
		return bad("find_grids");
	}
	Py_BEGIN_ALLOW_THREADS;
	if (type < DD_FLOAT32) {
		dd_integer_grid((dd_type)type, values.buf, (uint32_t)n, &all);
		most = all;
	} else {
		dd_find_grids((dd_type)type, values.buf, (uint32_t)n, &all, &most);
	}
	Py_END_ALLOW_THREADS;
	PyBuffer_Release(&values);
	return Py_BuildValue("NN", describe(&all), describe(&most));
}
