/* Binding of mode interp's net alone: training asks for its inputs, tests compare its outputs. */
#include "module.h"

#include "inet.h"
#include "interp.h"

typedef struct {
	dd_inet_state *net;
	uint64_t *m;
	int8_t *step;
	const uint64_t *x; /* each row's highest legal point */
	uint32_t count;
	uint64_t width;
	int16_t *input, *output; /* of the rows that are no anchors, in their order */
	float *scale, *target;
} trace;

/* Put row i, at e steps from a point. */
static void put(trace *t, uint32_t i, uint64_t lowest)
{
	int64_t e = dd_interp_steps(t->x[i], lowest, t->width);

	t->m[i] = lowest + t->width * (uint64_t)e;
	t->step[i] = (int8_t)(e < -3 ? -3 : e > 3 ? 3 : e);
	t->net->size[i] = dd_inet_size_of(e);
}

static void look(trace *t, uint32_t k, uint32_t i)
{
	const dd_inet_state *net = t->net;
	double width = (double)t->width;

	memcpy(t->input, net->input[k], sizeof net->input[k]);
	memcpy(t->output, net->output[k], sizeof net->output[k]);
	*t->scale++ = net->scale[k];
	/* The middle of the points that are legal for the row, in widths from where the net's outputs count from. */
	*t->target++ = (float)(((double)(int64_t)(t->x[i] - net->middle[k]) - 0.5 * (width - 1.0)) / width);
	t->input += DD_INET_INPUTS;
	t->output += DD_NET_OUTPUTS;
	put(t, i, dd_inet_mixture(net, k).centre);
}

/* As dd_interp_code goes through the rows. */
static void walk(trace *t, unsigned depth)
{
	uint32_t stride = 1u << depth;

	t->m[0] = t->x[0] - t->width / 2;
	t->step[0] = 0;
	for (uint32_t i = stride; i < t->count; i += stride)
		put(t, i, t->m[i - stride]);
	for (stride /= 2; stride > 0; stride /= 2) {
		uint32_t rows = dd_interp_rows(t->count, stride);

		dd_inet_level(t->net, t->m, t->step, t->count, stride);
		for (uint32_t k = 0; k < rows; k++) {
			if (k % DD_INET_PIECE == 0)
				dd_inet_look(t->net, k, rows - k < DD_INET_PIECE ? rows - k : DD_INET_PIECE);
			look(t, k % DD_INET_PIECE, (2 * k + 1) * stride);
		}
	}
}

/*
 * inet_trace(section, highest, width, stride) -> (int16 inputs, int16 outputs, float32 scales, float32 targets) of all rows
 * but anchors, in the order of coding and on the path that the net leads to. The GIL is released.
 */
PyObject *ddpy_inet_trace(PyObject *self, PyObject *args)
{
	Py_buffer section, index;
	PyObject *made[4] = {NULL}, *result = NULL;
	dd_error err = {DD_OK, NULL, NULL};
	unsigned long long width;
	void *block = NULL;
	unsigned depth;
	size_t n, rows, size;
	dd_net net;

	(void)self;
	if (!PyArg_ParseTuple(args, "y*y*KI", &section, &index, &width, &depth))
		return NULL;
	n = (size_t)index.len / 8;
	if (dd_inet_open(section.buf, (size_t)section.len, &net, &err) != DD_OK || n == 0 || index.len % 8 != 0 ||
	    n > DD_MAX_ROWS || width < 1 || width > 1ull << 40 || depth > DD_INTERP_STRIDE_MOST) {
		PyErr_SetString(PyExc_ValueError, err.what != NULL ? err.what : "bad arguments to inet_trace");
		goto done;
	}
	rows = n - ((n - 1) >> depth) - 1;
	size = dd_inet_size((uint32_t)n);
	for (unsigned k = 0; k < 4; k++) {
		const size_t wide[] = {DD_INET_INPUTS * sizeof(int16_t), DD_NET_OUTPUTS * sizeof(int16_t), sizeof(float), sizeof(float)};

		made[k] = PyByteArray_FromStringAndSize(NULL, (Py_ssize_t)(rows * wide[k]));
	}
	block = PyMem_RawMalloc(size + n * (sizeof(uint64_t) + 1) + 15);
	if (made[0] == NULL || made[1] == NULL || made[2] == NULL || made[3] == NULL || block == NULL) {
		PyErr_NoMemory();
		goto done;
	}
	Py_BEGIN_ALLOW_THREADS;
	uint8_t *at = (void *)(((uintptr_t)block + 15) & ~(uintptr_t)15);
	trace t = {.net = dd_inet_start(at, &net, (uint32_t)n, width),
		   .m = (uint64_t *)(void *)(at + size),
		   .step = (int8_t *)at + size + n * sizeof(uint64_t),
		   .x = index.buf,
		   .count = (uint32_t)n,
		   .width = width,
		   .input = (int16_t *)(void *)PyByteArray_AS_STRING(made[0]),
		   .output = (int16_t *)(void *)PyByteArray_AS_STRING(made[1]),
		   .scale = (float *)(void *)PyByteArray_AS_STRING(made[2]),
		   .target = (float *)(void *)PyByteArray_AS_STRING(made[3])};

	walk(&t, depth);
	Py_END_ALLOW_THREADS;
	result = PyTuple_Pack(4, made[0], made[1], made[2], made[3]);
done:
	PyMem_RawFree(block);
	for (unsigned k = 0; k < 4; k++)
		Py_XDECREF(made[k]);
	PyBuffer_Release(&section);
	PyBuffer_Release(&index);
	return result;
}
