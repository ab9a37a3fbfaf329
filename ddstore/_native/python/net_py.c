/* Binding of the density net alone: training asks for its inputs, tests compare its outputs. */
#include "module.h"

#include "net.h"

/*
 * net_trace(section, index, base, unit) -> (int16 inputs, float32 scales, int16 outputs), n rows of each, as the coder has
 * them. The GIL is released.
 */
PyObject *ddpy_net_trace(PyObject *self, PyObject *args)
{
	Py_buffer section, index;
	PyObject *inputs = NULL, *scales = NULL, *outputs = NULL, *result = NULL;
	dd_error err = {DD_OK, NULL, NULL};
	void *block = NULL;
	long long base;
	float unit;
	size_t n, wide;
	dd_net net;

	(void)self;
	if (!PyArg_ParseTuple(args, "y*y*Lf", &section, &index, &base, &unit))
		return NULL;
	n = (size_t)index.len / 8;
	if (dd_net_open(section.buf, (size_t)section.len, &net, &err) != DD_OK || index.len == 0 || index.len % 8 != 0 ||
	    n > DD_MAX_ROWS || !(unit >= 0 && unit <= 1e18f)) {
		PyErr_SetString(PyExc_ValueError, err.what != NULL ? err.what : "bad arguments to net_trace");
		goto done;
	}
	wide = net.lags + DD_NET_EXTRAS;
	inputs = PyByteArray_FromStringAndSize(NULL, (Py_ssize_t)(n * wide * sizeof(int16_t)));
	scales = PyByteArray_FromStringAndSize(NULL, (Py_ssize_t)(n * sizeof(float)));
	outputs = PyByteArray_FromStringAndSize(NULL, (Py_ssize_t)(n * DD_NET_OUTPUTS * sizeof(int16_t)));
	block = PyMem_RawMalloc(sizeof(dd_net_state) + 15);
	if (inputs == NULL || scales == NULL || outputs == NULL || block == NULL) {
		PyErr_NoMemory();
		goto done;
	}
	Py_BEGIN_ALLOW_THREADS;
	dd_net_state *s = (void *)(((uintptr_t)block + 15) & ~(uintptr_t)15);
	const uint64_t *q = index.buf;
	char *in = PyByteArray_AS_STRING(inputs), *scale = PyByteArray_AS_STRING(scales), *out = PyByteArray_AS_STRING(outputs);

	dd_net_start(s, &net, q[0], (uint64_t)base, unit);
	for (size_t i = 0; i < n; i++) {
		dd_net_look(s);
		dd_net_run(s);
		memcpy(in + i * wide * sizeof(int16_t), s->input, wide * sizeof(int16_t));
		memcpy(scale + i * sizeof(float), &s->scale, sizeof(float));
		memcpy(out + i * DD_NET_OUTPUTS * sizeof(int16_t), s->output, DD_NET_OUTPUTS * sizeof(int16_t));
		dd_net_push(s, q[i]);
	}
	Py_END_ALLOW_THREADS;
	result = PyTuple_Pack(3, inputs, scales, outputs);
done:
	PyMem_RawFree(block);
	Py_XDECREF(inputs);
	Py_XDECREF(scales);
	Py_XDECREF(outputs);
	PyBuffer_Release(&section);
	PyBuffer_Release(&index);
	return result;
}
